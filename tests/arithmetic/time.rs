//! Logical time and the times in request ids, near the ends of their bits.

use proptest::prelude::*;

use crosslatch::clock::LogicalClock;
use crosslatch::types::{RequestId, Time};

/// Times that a clock may say: far from where adding an age to them would overflow.
fn wall() -> impl Strategy<Value = u64> {
    let sane: u64 = 1_700_000_000_000_000;
    prop_oneof![0..10_u64, sane..sane + 1_000, Just(u64::MAX), any::<u64>()]
}

proptest! {
    #[test]
    fn time_goes_on_within_a_hundredth_of_what_elapsed(
        start in prop_oneof![0..10_u64, Just(1 << 53), Just(1 << 62)],
        boot in prop_oneof![0..10_u64, Just(u64::MAX / 2)],
        steps in prop::collection::vec((0..5_000_000_000_000_u64, wall()), 1..20),
    ) {
        let mut clock = LogicalClock::start(Time::new(start), Time::new(0), boot);
        let mut boot_now = boot;
        for (nanos, wall) in steps {
            boot_now += nanos;
            let before = clock.now();
            let now = clock.advance(boot_now, Time::new(wall));
            prop_assert!(before <= now && now < Time::NEVER);
            // No fraction of a microsecond is lost from step to step, and none is gained.
            let elapsed = (boot_now - boot) / 1_000;
            let (least, most) = (elapsed - elapsed / 100, elapsed + elapsed / 100);
            prop_assert!((least..=most).contains(&(now.get() - start)));
        }
    }

    #[test]
    fn a_clock_that_stands_or_goes_back_moves_nothing(boot: u64, back: u64, wall in wall()) {
        let start = Time::new(1 << 50);
        let mut clock = LogicalClock::start(start, Time::new(0), boot);
        prop_assert_eq!(clock.advance(boot.saturating_sub(back), Time::new(wall)), start);
    }

    #[test]
    fn ids_keep_48_bits_of_time(millis: u64, random: u128) {
        let id = RequestId::v7(millis, random);
        prop_assert_eq!(id.v7_millis(), Some(millis & 0xFFFF_FFFF_FFFF));
        prop_assert_eq!(id.to_string().parse(), Ok(id));
        prop_assert_eq!(Time::new(millis).millis(), millis / 1_000);
    }
}
