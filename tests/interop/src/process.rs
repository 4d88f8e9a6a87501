//! Programs that end when the test does, and what they print.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};

/// How long a program may take for what should take moments, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A program that was started, with everything that it printed so far. Dropping it kills it, and its process group.
#[derive(Debug)]
pub struct Running {
    child: Child,
    what: String,
    /// Standard output.
    pub stdout: Output,
    /// Standard error.
    pub stderr: Output,
}

/// A program that ended.
#[derive(Debug)]
pub struct Finished {
    /// The command, for messages.
    pub what: String,
    /// How it ended.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Running {
    /// Starts `command` in a process group of its own.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start(command: &mut Command) -> Self {
        let what = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {what}: {error}"));
        let stdout = Output::of(child.stdout.take().expect("stdout is piped"));
        let stderr = Output::of(child.stderr.take().expect("stderr is piped"));
        Self { child, what, stdout, stderr }
    }

    /// The process identifier.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Standard input, to be written to and dropped at the end of the input. There once.
    pub fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("standard input was taken before")
    }

    /// Gives standard input back, so that it stays open for as long as the process runs.
    pub fn put_stdin(&mut self, stdin: ChildStdin) {
        self.child.stdin = Some(stdin);
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.what));
    }

    /// Ends it as a fault does, by this signal.
    ///
    /// # Panics
    /// When it doesn't end within [`PATIENCE`].
    #[track_caller]
    pub fn crash(&mut self, signal: Signal) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.signal(signal);
            // Rust's own handler of SIGSEGV gives way to the default one and returns, so that a fault ends the program when
            // it happens again; what was sent, and is no fault, has to be sent again.
            if let Some(status) = self.ended(Duration::from_millis(500)) {
                return status;
            }
            assert!(Instant::now() < deadline, "{signal:?} doesn't end {}\n{}", self.what, self.said());
        }
    }

    /// Kills it, and its process group.
    pub fn kill(&mut self) {
        // Until it has been waited for, its identifier, which is that of its group too, belongs to nobody else.
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process_group(self.pid(), Signal::KILL);
            let _ = self.child.wait();
        }
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the process is ours").is_none()
    }

    /// How it ended, if it does within `patience`.
    pub fn ended(&mut self, patience: Duration) -> Option<ExitStatus> {
        self.ends_before(Instant::now() + patience).then(|| self.child.wait().expect("the process is ours"))
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When the end doesn't come within `patience`.
    pub fn finish(mut self, patience: Duration) -> Finished {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + patience;
        if self.is_running() && !self.ends_before(deadline) {
            panic!("still running after {patience:?}: {}\n{}", self.what, self.said());
        }
        let status = self.child.wait().expect("the process is ours");
        // What it printed is complete when the pipes are closed, which a surviving child of it may delay.
        for output in [&self.stdout, &self.stderr] {
            output.wait_closed(deadline.max(Instant::now() + Duration::from_secs(1)));
        }
        Finished { what: self.what.clone(), status, stdout: self.stdout.text(), stderr: self.stderr.text() }
    }

    /// Everything that it printed, for messages.
    pub fn said(&self) -> String {
        format!("--- stdout\n{}\n--- stderr\n{}", self.stdout.text(), self.stderr.text())
    }

    fn ends_before(&self, deadline: Instant) -> bool {
        let process = pidfd_open(self.pid(), PidfdFlags::empty()).expect("the process is ours");
        loop {
            let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).expect("a short time");
            match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&left)) {
                Ok(ready) => return ready > 0,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("cannot wait for {}: {error}", self.what),
            }
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs `command` with `input` as its standard input and waits for its end, for at most [`PATIENCE`].
pub fn run(command: &mut Command, input: &[u8]) -> Finished {
    run_within(command, input, PATIENCE)
}

/// Runs `command` with `input` as its standard input and waits for its end, for at most `patience`.
pub fn run_within(command: &mut Command, input: &[u8], patience: Duration) -> Finished {
    let mut running = Running::start(command);
    let mut stdin = running.stdin();
    let input = input.to_vec();
    // On a thread of its own, since a program may print more than a pipe holds before it reads. One that ends without
    // reading its input is no failure of the test.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let finished = running.finish(patience);
    writer.join().expect("the writer doesn't panic");
    finished
}

impl Finished {
    /// Fails the test unless the program ended with exit code 0.
    #[track_caller]
    pub fn expect_success(self) -> Self {
        self.expect_code(0)
    }

    /// Fails the test unless the program ended with exit code `code`.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{}", self.said());
        self
    }

    /// Everything that it printed, for messages.
    pub fn said(&self) -> String {
        format!("{}\n{}\n--- stdout\n{}\n--- stderr\n{}", self.what, self.status, self.stdout, self.stderr)
    }
}

/// What a program writes to one of its outputs, while it does so.
#[derive(Clone, Debug)]
pub struct Output(Arc<(Mutex<Text>, Condvar)>);

#[derive(Debug, Default)]
struct Text {
    bytes: Vec<u8>,
    closed: bool,
}

impl Output {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let output = Self(Arc::default());
        let writer = output.clone();
        thread::spawn(move || {
            let mut chunk = [0; 8192];
            loop {
                let read = pipe.read(&mut chunk).unwrap_or(0);
                let mut text = writer.lock();
                text.bytes.extend_from_slice(&chunk[..read]);
                text.closed = read == 0;
                writer.0.1.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
        output
    }

    /// What has been written so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock().bytes).into_owned()
    }

    /// The first complete line that contains `pattern`, as soon as it is written.
    ///
    /// # Panics
    /// When no such line is written within [`PATIENCE`], or the program closes this output before.
    #[track_caller]
    pub fn wait_for_line(&self, pattern: &str) -> String {
        self.wait_for(PATIENCE, |line| line.contains(pattern))
            .unwrap_or_else(|| panic!("no line with {pattern:?}:\n{}", self.text()))
    }

    /// The first complete line that is `wanted`, as soon as it is written; `None` after `patience`, or when the program
    /// has closed this output.
    pub fn wait_for(&self, patience: Duration, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let deadline = Instant::now() + patience;
        let mut text = self.lock();
        let mut looked_at = 0;
        loop {
            while let Some(length) = text.bytes[looked_at..].iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&text.bytes[looked_at..looked_at + length]);
                if wanted(&line) {
                    return Some(line.into_owned());
                }
                looked_at += length + 1;
            }
            if text.closed || Instant::now() >= deadline {
                return None;
            }
            text = self.wait(text, deadline);
        }
    }

    /// Whether all of the text so far is `wanted`, now or within `patience`.
    pub fn becomes(&self, patience: Duration, wanted: impl Fn(&str) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        let mut text = self.lock();
        loop {
            if wanted(&String::from_utf8_lossy(&text.bytes)) {
                return true;
            }
            if text.closed || Instant::now() >= deadline {
                return false;
            }
            text = self.wait(text, deadline);
        }
    }

    fn wait_closed(&self, deadline: Instant) {
        let mut text = self.lock();
        while !text.closed && Instant::now() < deadline {
            text = self.wait(text, deadline);
        }
    }

    fn wait<'a>(&self, text: MutexGuard<'a, Text>, deadline: Instant) -> MutexGuard<'a, Text> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.0.1.wait_timeout(text, left).unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, Text> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_seen_while_the_program_runs_and_the_program_ends_with_its_value() {
        let mut running = Running::start(Command::new("sh").args(["-c", "echo one; echo two >&2; exec sleep 600"]));
        assert_eq!(running.stdout.wait_for_line("on"), "one");
        assert_eq!(running.stderr.wait_for_line("tw"), "two");
        assert!(running.is_running());
        let pid = running.pid();
        drop(running);
        assert!(kill_process(pid, Signal::CONT).is_err(), "it was killed and waited for");
    }

    #[test]
    fn input_output_and_exit_code_arrive() {
        let finished = run(Command::new("sh").args(["-c", "cat; echo wrong >&2; exit 3"]), &[b'x'; 300_000]);
        assert_eq!(finished.stdout.len(), 300_000);
        assert_eq!(finished.expect_code(3).stderr, "wrong\n");
    }

    #[test]
    fn a_line_that_never_comes_is_not_found() {
        let running = Running::start(Command::new("sh").args(["-c", "echo other; exec sleep 600"]));
        assert_eq!(running.stdout.wait_for(Duration::from_millis(50), |line| line.contains("this")), None);
    }
}
