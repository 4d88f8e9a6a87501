//! Runs the fuzz targets over their corpora, fresh seeds, and a fixed number of mutations, without libFuzzer.
//!
//! Fails, and keeps the input in `artifacts/`, at a panic, a run of more than ten seconds, and a run that holds more
//! memory than its target may.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use counting::Counting;
use qtls_fuzz::mutate::{Numbers, mutate};
use qtls_fuzz::{TARGETS, Target};

/// Mutations of each target, unless `--count` says otherwise.
const COUNT: usize = 3000;
/// The seed of the mutations, unless `--seed` says otherwise.
const SEED: u64 = 1;
/// How many seconds one run may take, unless `--patience` says otherwise. Deliberately slow key derivation takes less.
const PATIENCE: u64 = 10;

/// Targets that do what no target may: for the test that this program notices. They run only when they are named.
const BROKEN: &[Target] = &[
    broken("broken-panic", |input| assert!(input.is_empty())),
    broken("broken-memory", |input| drop(std::hint::black_box(vec![1_u8; input.len() * (64 << 20)]))),
    broken("broken-endless", |input| while std::hint::black_box(!input.is_empty()) {}),
];

const fn broken(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run, seeds: || vec![vec![0]], secret: true, memory: 1 << 20 }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting::new();

/// What runs at the moment, for the watchdog.
static RUNNING: Mutex<Option<(Instant, PathBuf, Vec<u8>)>> = Mutex::new(None);

fn main() -> ExitCode {
    match Arguments::parse().and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("replay: {message}");
            ExitCode::FAILURE
        }
    }
}

struct Arguments {
    targets: Vec<Target>,
    count: usize,
    seed: u64,
    save_seeds: bool,
    patience: Duration,
    inputs: Vec<PathBuf>,
}

impl Arguments {
    fn parse() -> Result<Self, String> {
        let mut parsed = Self {
            targets: Vec::new(),
            count: COUNT,
            seed: SEED,
            save_seeds: false,
            patience: Duration::from_secs(PATIENCE),
            inputs: Vec::new(),
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--count" => parsed.count = value()?.parse().map_err(|_| "--count needs a number")?,
                "--seed" => parsed.seed = value()?.parse().map_err(|_| "--seed needs a number")?,
                "--patience" => {
                    parsed.patience = Duration::from_secs(value()?.parse().map_err(|_| "--patience needs seconds")?);
                }
                "--input" => parsed.inputs.push(value()?.into()),
                "--save-seeds" => parsed.save_seeds = true,
                name => {
                    let known = TARGETS.iter().chain(BROKEN).find(|target| target.name == name);
                    parsed.targets.push(*known.ok_or(format!("there is no target {name}"))?);
                }
            }
        }
        if parsed.targets.is_empty() {
            parsed.targets = TARGETS.to_vec();
        }
        Ok(parsed)
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let patience = arguments.patience;
    std::thread::spawn(move || watch(patience));
    for target in &arguments.targets {
        let began = Instant::now();
        let seeds = (target.seeds)();
        if arguments.save_seeds {
            save(target, &seeds)?;
        }
        let mut inputs = if arguments.inputs.is_empty() { seeds } else { Vec::new() };
        let kept = if arguments.inputs.is_empty() { corpus(target)? } else { arguments.inputs.clone() };
        for path in &kept {
            inputs.push(fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?);
        }
        // What a target sets up once is not the first input's.
        (target.run)(&[]);
        let mut most = 0;
        for input in &inputs {
            most = most.max(once(target, input)?);
        }
        let count = if arguments.inputs.is_empty() { arguments.count } else { 0 };
        let mut numbers = Numbers::new(arguments.seed);
        for _ in 0..count {
            let (one, other) = (numbers.below(inputs.len()), numbers.below(inputs.len()));
            most = most.max(once(target, &mutate(&inputs[one], &inputs[other], &mut numbers))?);
        }
        println!(
            "{:<14} {} inputs and {count} mutations in {:.1} s; at most {} KiB",
            target.name,
            inputs.len(),
            began.elapsed().as_secs_f32(),
            most / 1024
        );
    }
    Ok(())
}

/// Runs one input. Answers how much memory it held at most.
fn once(target: &Target, input: &[u8]) -> Result<usize, String> {
    let artifact = artifact(target, input);
    *RUNNING.lock().map_err(|_| "the watchdog has failed")? = Some((Instant::now(), artifact.clone(), input.to_vec()));
    let before = ALLOCATOR.start();
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let held = ALLOCATOR.peak().saturating_sub(before);
    *RUNNING.lock().map_err(|_| "the watchdog has failed")? = None;
    let failure = match outcome {
        Err(_) => "panicked".to_owned(),
        Ok(()) if held > target.memory => format!("held {} MiB of memory", held >> 20),
        Ok(()) => return Ok(held),
    };
    keep(&artifact, input);
    Err(format!("{} {failure}; the input is in {}", target.name, artifact.display()))
}

/// Ends the process when a run takes too long: nothing else can be done about it from outside.
fn watch(patience: Duration) {
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let Ok(running) = RUNNING.lock() else { return };
        if let Some((since, artifact, input)) = &*running
            && since.elapsed() > patience
        {
            keep(artifact, input);
            eprintln!("replay: a run takes more than {} s; the input is in {}", patience.as_secs(), artifact.display());
            std::process::exit(1);
        }
    }
}

fn corpus(target: &Target) -> Result<Vec<PathBuf>, String> {
    let directory = root().join("corpus").join(target.name);
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let files: BTreeSet<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    Ok(files.into_iter().collect())
}

fn save(target: &Target, seeds: &[Vec<u8>]) -> Result<(), String> {
    if target.secret {
        return Ok(());
    }
    let directory = root().join("corpus").join(target.name);
    fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    for seed in seeds {
        keep(&directory.join(format!("seed-{:016x}", sum(seed))), seed);
    }
    Ok(())
}

fn artifact(target: &Target, input: &[u8]) -> PathBuf {
    root().join("artifacts").join(format!("{}-{:016x}", target.name, sum(input)))
}

fn keep(path: &Path, input: &[u8]) {
    let write = || -> std::io::Result<()> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(path, input)
    };
    if let Err(error) = write() {
        eprintln!("replay: {} can't be written: {error}", path.display());
    }
}

/// FNV-1a: a name for an input.
fn sum(input: &[u8]) -> u64 {
    input.iter().fold(0xcbf2_9ce4_8422_2325, |sum, octet| (sum ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The one place that needs unsafe code: an allocator can't be written without.
#[allow(unsafe_code)]
mod counting {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// The system's allocator, counting what is held; it gives no more than two gigabytes in all, so that an endless
    /// allocation ends the process and not the machine.
    pub struct Counting {
        held: AtomicUsize,
        peak: AtomicUsize,
    }

    const MOST: usize = 2 << 30;

    impl Counting {
        pub const fn new() -> Self {
            Self { held: AtomicUsize::new(0), peak: AtomicUsize::new(0) }
        }

        /// Begins to watch for the peak. Answers what is held already.
        pub fn start(&self) -> usize {
            let held = self.held.load(Ordering::Relaxed);
            self.peak.store(held, Ordering::Relaxed);
            held
        }

        /// The most that was held since [`start`](Self::start).
        pub fn peak(&self) -> usize {
            self.peak.load(Ordering::Relaxed)
        }

        fn add(&self, size: usize) {
            let held = self.held.fetch_add(size, Ordering::Relaxed) + size;
            self.peak.fetch_max(held, Ordering::Relaxed);
        }
    }

    // SAFETY: every pointer comes from `System` and goes back to it with the layout that it came with; the counters
    // don't touch memory.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            if self.held.load(Ordering::Relaxed).saturating_add(layout.size()) > MOST {
                return std::ptr::null_mut();
            }
            // SAFETY: the caller's promises about `layout` are passed on.
            let pointer = unsafe { System.alloc(layout) };
            if !pointer.is_null() {
                self.add(layout.size());
            }
            pointer
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            // SAFETY: `pointer` came from `alloc` above, and so from `System`, with this layout.
            unsafe { System.dealloc(pointer, layout) };
            self.held.fetch_sub(layout.size(), Ordering::Relaxed);
        }
    }
}
