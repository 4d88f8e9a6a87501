//! The memory budget: how much the process takes, and whether that is too much for another connection.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Where the system tells how much memory this process takes.
#[derive(Debug)]
pub(super) struct Meter(#[cfg(target_os = "linux")] std::fs::File);

impl Meter {
    /// The one of this process, which is opened at the first call: afterwards it can be read from within a sandbox that
    /// hides `/proc`. `None` where the system doesn't tell.
    pub(super) fn of_this_process() -> Option<&'static Self> {
        static METER: OnceLock<Option<Meter>> = OnceLock::new();
        METER.get_or_init(|| Self::open().filter(|meter| meter.resident().is_some())).as_ref()
    }

    #[cfg(target_os = "linux")]
    fn open() -> Option<Self> {
        std::fs::File::open("/proc/self/statm").ok().map(Self)
    }

    #[cfg(not(target_os = "linux"))]
    fn open() -> Option<Self> {
        None
    }

    /// The resident memory, in bytes.
    pub(super) fn resident(&self) -> Option<u64> {
        #[cfg(target_os = "linux")]
        {
            use std::os::unix::fs::FileExt;
            let mut text = [0; 128];
            let length = self.0.read_at(&mut text, 0).ok()?;
            // Size and resident memory, in pages.
            let pages = std::str::from_utf8(&text[..length]).ok()?.split(' ').nth(1)?.parse::<u64>().ok()?;
            Some(pages * u64::try_from(rustix::param::page_size()).ok()?)
        }
        #[cfg(not(target_os = "linux"))]
        None
    }
}

/// Whether the process takes too much.
#[derive(Debug, Default)]
pub(super) struct Memory {
    over: AtomicBool,
    resident: AtomicU64,
}

impl Memory {
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    /// What was last measured, in bytes.
    pub(super) fn resident(&self) -> u64 {
        self.resident.load(Relaxed)
    }

    /// Judges what was measured, and tells whether connections may be taken again from now on.
    ///
    /// It is too much above the budget, and no longer below nine tenths of it: else each connection that ends would let
    /// one in. A budget of 0 is none.
    pub(super) fn judge(&self, resident: u64, budget: u64) -> bool {
        self.resident.store(resident, Relaxed);
        let was_over = self.is_over();
        let over = budget > 0 && resident > if was_over { budget - budget / 10 } else { budget };
        self.over.store(over, Relaxed);
        was_over && !over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn over_above_the_budget_and_under_below_nine_tenths() {
        let memory = Memory::default();
        let over = |resident| {
            let again = memory.judge(resident * MIB, 100 * MIB);
            (memory.is_over(), again)
        };
        assert_eq!(over(100), (false, false));
        assert_eq!(over(101), (true, false));
        assert_eq!(over(100), (true, false));
        assert_eq!(over(91), (true, false));
        assert_eq!(over(90), (false, true));
        assert_eq!(over(99), (false, false));
        // Turned off while over.
        assert!(!memory.judge(200 * MIB, 100 * MIB) && memory.is_over());
        assert!(memory.judge(200 * MIB, 0) && !memory.is_over());
        assert!(!memory.judge(200 * MIB, 0));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_meter_sees_what_is_taken() {
        let meter = Meter::of_this_process().unwrap();
        let before = meter.resident().unwrap();
        let taken = std::hint::black_box(vec![1_u8; 64 << 20]);
        let with = meter.resident().unwrap();
        assert!(with >= before + 60 * MIB, "{before} before, {with} with {} bytes", taken.len());
    }
}
