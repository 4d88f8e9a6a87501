//! A real systemd, which starts our programs as it does on a server. Its root is the peers' Debian; the network is the
//! host's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::openssl::text;
use crate::peers;
use crate::process::{Finished, PATIENCE, Running, run, run_within};

/// A systemd that has booted.
#[derive(Debug)]
pub struct Systemd {
    process: Running,
    control_group: PathBuf,
    work: TempDir,
}

impl Systemd {
    /// Boots it with these units, by name and content. They are not started, and see `shares`, [`Systemd::directory`] and
    /// the programs of Q-TLS at the same paths.
    ///
    /// # Panics
    /// When it doesn't boot within [`PATIENCE`].
    #[track_caller]
    pub fn boot(units: &[(&str, String)], shares: &[&Path]) -> Self {
        Self::boot_with(units, shares, &[])
    }

    /// Boots it with directories at other paths than here, too.
    ///
    /// # Panics
    /// When it doesn't boot within [`PATIENCE`].
    #[track_caller]
    pub fn boot_with(units: &[(&str, String)], shares: &[&Path], elsewhere: &[(&Path, &str)]) -> Self {
        let work = tempfile::tempdir().expect("the temporary directory is writable");
        let directory = work.path().join("units");
        fs::create_dir(&directory).expect("the temporary directory is writable");
        let target = ("boot.target", "[Unit]\nDefaultDependencies=no\n".to_owned());
        for (name, content) in units.iter().chain([&target]) {
            fs::write(directory.join(name), content).expect("the temporary directory is writable");
        }
        let group = format!("qtls-{}", work.path().file_name().and_then(|name| name.to_str()).unwrap_or_default());
        let mut command = peers::boot();
        command.arg(&directory).arg(group).arg(work.path()).arg(crate::programs::directory()).args(shares);
        command.args(elsewhere.iter().map(|(here, there)| format!("{}:{there}", here.display())));
        let process = Running::start(&mut command);
        let made = process.stdout.wait_for_line("control group ");
        let control_group = PathBuf::from(made.trim_start_matches("control group "));
        let systemd = Self { process, control_group, work };
        let booted = Instant::now() + PATIENCE;
        while systemd.systemctl(&["is-system-running"]).stdout.trim() != "running" {
            assert!(Instant::now() < booted, "systemd doesn't boot\n{}", systemd.process.said());
            std::thread::sleep(Duration::from_millis(50));
        }
        systemd
    }

    /// A directory that units and test share, and that ends with systemd.
    pub fn directory(&self) -> &Path {
        self.work.path()
    }

    /// Runs `systemctl`, and waits for its end.
    pub fn systemctl(&self, arguments: &[&str]) -> Finished {
        run_within(self.command("systemctl").args(arguments), b"", 2 * PATIENCE)
    }

    /// Starts `systemctl`.
    pub fn start_systemctl(&self, arguments: &[&str]) -> Running {
        Running::start(self.command("systemctl").args(arguments))
    }

    /// A property of a unit.
    #[track_caller]
    pub fn show(&self, unit: &str, property: &str) -> String {
        let shown = self.systemctl(&["show", "--value", "--property", property, unit]).expect_success().stdout;
        shown.trim_end_matches('\n').to_owned()
    }

    /// A property of a unit, as soon as it is `wanted`.
    ///
    /// # Panics
    /// When it isn't within [`PATIENCE`].
    #[track_caller]
    pub fn show_when(&self, unit: &str, property: &str, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let value = self.show(unit, property);
            if wanted(&value) {
                return value;
            }
            assert!(Instant::now() < deadline, "{property} of {unit} stays {value:?}\n{}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The processes of a service, by the identifiers that they have outside.
    pub fn processes(&self, unit: &str) -> Vec<u32> {
        let path = self.control_group.join("system.slice").join(unit).join("cgroup.procs");
        let Ok(listed) = fs::read_to_string(path) else { return Vec::new() };
        listed.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// What systemd said, for messages.
    pub fn said(&self) -> String {
        self.process.said()
    }

    fn command(&self, program: &str) -> Command {
        // The first process inside is the one child of the one that made the namespaces.
        let unshare = self.process.id();
        let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).unwrap_or_default();
        let inside = children.split_whitespace().next().unwrap_or("0").to_owned();
        let mut command = Command::new("nsenter");
        command.args(["--target", &inside, "--all", "--root", "--wd=/"]);
        if !rustix::process::geteuid().is_root() {
            command.arg("--preserve-credentials");
        }
        command.args(["--", "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin", "SYSTEMD_PAGER=", program]);
        command
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        self.process.kill();
        // A group can be removed when its last process has been waited for, by systemd's own end.
        let deadline = Instant::now() + PATIENCE;
        while self.control_group.exists() && Instant::now() < deadline {
            remove_groups(&self.control_group);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn remove_groups(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}

/// Holds a thread still, as if it hung, for as long as the value lives.
#[derive(Debug)]
pub struct Held(Running);

/// Holds the thread of the process `process` whose name is `name`. Needs to be allowed to trace it.
///
/// # Panics
/// When there is no such thread, or it can't be held.
#[track_caller]
pub fn hold(process: u32, name: &str) -> Held {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("the process is there");
    let is_it = |path: &PathBuf| fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name);
    let path = threads.flatten().map(|entry| entry.path()).find(is_it);
    let path = path.unwrap_or_else(|| panic!("process {process} has no thread {name}"));
    let thread = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let number = match std::env::consts::ARCH {
        "x86_64" => 101,
        "aarch64" => 117,
        other => panic!("the number of ptrace on {other} isn't known here"),
    };
    // PTRACE_SEIZE and PTRACE_INTERRUPT stop one thread alone. Perl has raw system calls, and every Debian has Perl.
    let script = format!(
        "$| = 1; syscall({number}, 0x4206, {thread}, 0, 0) == 0 or die \"seize: $!\"; \
         syscall({number}, 0x4207, {thread}, 0, 0) == 0 or die \"interrupt: $!\"; waitpid({thread}, 0x40000000); \
         print \"held\\n\"; <STDIN>;"
    );
    let running = Running::start(Command::new("perl").args(["-e", &script]));
    assert!(running.stdout.wait_for(PATIENCE, |line| line == "held").is_some(), "{}", running.said());
    Held(running)
}

impl Held {
    /// Lets it go on.
    pub fn release(self) {
        drop(self.0);
    }
}

/// Lists the descriptors of a process that are this listening socket of 127.0.0.1.
pub fn descriptors_of(process: u32, port: u16) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").expect("Linux has this table");
    let local = format!("0100007F:{port:04X}");
    let inodes: Vec<String> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|columns| columns.get(1) == Some(&local.as_str()) && columns.get(3) == Some(&"0A"))
        .filter_map(|columns| columns.get(9).map(|inode| format!("socket:[{inode}]")))
        .collect();
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).expect("the process is ours");
    let targets = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.filter(|target| inodes.iter().any(|inode| target.as_path() == Path::new(inode))).count()
}

/// The version of the systemd that is booted here.
pub fn version() -> String {
    let mut command = peers::debian("systemctl", [] as [&Path; 0]);
    let line = run(command.arg("--version"), b"").expect_success().stdout;
    line.lines().next().unwrap_or_default().to_owned()
}

/// A path in a unit.
pub fn path(path: &Path) -> &str {
    text(path)
}
