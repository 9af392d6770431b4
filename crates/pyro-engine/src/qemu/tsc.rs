//! The rate of the host's time-stamp counter.
//!
//! An emulated machine's counter is the host's, and its kernel cannot measure the rate by itself:
//! the `microvm` board has no timer that it would measure against, and it hangs. So it is told
//! (`tsc_early_khz`).
#![allow(unsafe_code)]

use std::arch::x86_64::_rdtsc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Long enough for 20 ppm: a pair of readings is off by some tens of nanoseconds at each end.
const SPAN: Duration = Duration::from_millis(4);

/// Pairs of readings at each end, of which the tightest counts.
const TRIES: u32 = 8;

/// kHz, measured once in a process against the kernel's monotonic clock.
pub(crate) fn khz() -> u64 {
    static KHZ: OnceLock<u64> = OnceLock::new();
    *KHZ.get_or_init(measure)
}

fn measure() -> u64 {
    let (begun, first) = reading();
    std::thread::sleep(SPAN);
    let (ended, last) = reading();
    let span = ended.duration_since(begun).as_nanos().max(1);
    let ticks = u128::from(last.wrapping_sub(first));
    (ticks * 1_000_000 / span) as u64
}

/// Both clocks at one moment: of several pairs the one between whose clock readings least passed,
/// that is, into which no interrupt fell.
fn reading() -> (Instant, u64) {
    let mut best = (Duration::MAX, Instant::now(), 0);
    for _ in 0..TRIES {
        let before = Instant::now();
        // SAFETY: every x86-64 CPU has the instruction, and Linux lets user code use it.
        let ticks = unsafe { _rdtsc() };
        let width = before.elapsed();
        if width < best.0 {
            best = (width, before + width / 2, ticks);
        }
    }
    (best.1, best.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_measurements_agree() {
        let (one, two) = (measure(), measure());
        assert!((100_000..20_000_000).contains(&one), "{one}");
        assert!(one.abs_diff(two) < one / 1000, "{one} {two}");
    }
}
