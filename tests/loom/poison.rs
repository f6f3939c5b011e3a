//! The poison: its cause is known before anybody can notice that something ended, everybody who
//! waits wakes, and nothing is acknowledged afterwards.
//!
//! The alarm is here a flag with a condition to wait for, in the engine a channel that disconnects.

use std::sync::Arc;

use crosslatch::actor::{Poison, Switch, run};
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::sync::{Condvar, Mutex, mpsc};
use loom::thread;

use crate::explore;

/// Whether it has gone off, and who waits for that.
type Heard = Arc<(Mutex<bool>, Condvar)>;

/// Goes off when it is dropped.
struct Alarm(Heard);

impl Drop for Alarm {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

fn has_gone_off(heard: &Heard) -> bool {
    *heard.0.lock().unwrap()
}

fn wait(heard: &Heard) {
    let (gone_off, condition) = &**heard;
    let mut gone_off = gone_off.lock().unwrap();
    while !*gone_off {
        gone_off = condition.wait(gone_off).unwrap();
    }
}

trait Trips: Send + Sync + 'static {
    fn new(alarm: Alarm) -> Self;
    fn trip(&self, cause: &str);
    fn cause(&self) -> Option<String>;
}

impl Trips for Switch<Alarm> {
    fn new(alarm: Alarm) -> Self {
        Self::new(alarm)
    }
    fn trip(&self, cause: &str) {
        self.trip(cause.into(), |_| {});
    }
    fn cause(&self) -> Option<String> {
        self.cause().cloned()
    }
}

/// The alarm goes off before there is a cause.
struct AlarmFirst {
    cause: Mutex<Option<String>>,
    alarm: Mutex<Option<Alarm>>,
}

impl Trips for AlarmFirst {
    fn new(alarm: Alarm) -> Self {
        Self { cause: Mutex::new(None), alarm: Mutex::new(Some(alarm)) }
    }
    fn trip(&self, cause: &str) {
        drop(self.alarm.lock().unwrap().take());
        self.cause.lock().unwrap().get_or_insert_with(|| cause.into());
    }
    fn cause(&self) -> Option<String> {
        self.cause.lock().unwrap().clone()
    }
}

/// Who comes second leaves the alarm to the first.
struct LeavesIt {
    cause: Mutex<Option<String>>,
    alarm: Mutex<Option<Alarm>>,
}

impl Trips for LeavesIt {
    fn new(alarm: Alarm) -> Self {
        Self { cause: Mutex::new(None), alarm: Mutex::new(Some(alarm)) }
    }
    fn trip(&self, cause: &str) {
        let mut known = self.cause.lock().unwrap();
        if known.is_some() {
            return;
        }
        *known = Some(cause.into());
        drop(known);
        drop(self.alarm.lock().unwrap().take());
    }
    fn cause(&self) -> Option<String> {
        self.cause.lock().unwrap().clone()
    }
}

/// Two fail at the same time, and one waits. That it wakes loom sees by itself: it knows a deadlock.
fn failures<T: Trips>() {
    let heard = Heard::default();
    let switch = Arc::new(T::new(Alarm(heard.clone())));
    let fail = |cause: &'static str| {
        let (switch, heard) = (switch.clone(), heard.clone());
        move || {
            switch.trip(cause);
            assert!(has_gone_off(&heard), "tripped, and the alarm has not gone off");
            switch.cause().expect("tripped, and without a cause")
        }
    };
    let other = thread::spawn(fail("a panic"));
    let waiter = thread::spawn({
        let (switch, heard) = (switch.clone(), heard.clone());
        move || {
            wait(&heard);
            switch.cause().expect("woken, and no cause")
        }
    });
    let cause = fail("the disk")();
    assert_eq!(other.join().unwrap(), cause, "only the first cause counts");
    assert_eq!(waiter.join().unwrap(), cause, "only the first cause counts");
}

#[test]
fn everybody_wakes_and_finds_the_first_cause() {
    explore("poison", failures::<Switch<Alarm>>);
}

#[test]
#[should_panic(expected = "woken, and no cause")]
fn an_alarm_before_its_cause_would_be_found() {
    explore("poison, alarm first", failures::<AlarmFirst>);
}

#[test]
#[should_panic(expected = "tripped, and the alarm has not gone off")]
fn leaving_the_alarm_to_the_first_would_be_found() {
    explore("poison, alarm left", failures::<LeavesIt>);
}

/// What an actor owns; others notice when it is gone, as they notice a channel that disconnects.
struct Owned(Arc<AtomicBool>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// An actor fails and lets go of what it owns; another one notices that and asks why.
fn end_of_an_actor(lent: bool) {
    let (poison, gone) = (Poison::new(), Arc::new(AtomicBool::new(false)));
    let actor = thread::spawn({
        let (poison, owned) = (poison.clone(), Owned(gone.clone()));
        move || {
            if lent {
                run("actor", &poison, move || {
                    let _owned = &owned;
                    Err("failed".into())
                });
            } else {
                drop(owned);
                poison.trip("actor: failed".into());
            }
        }
    });
    if gone.load(Ordering::Acquire) {
        assert!(poison.is_tripped(), "gone, and nobody knows why");
        assert_eq!(poison.cause().as_deref(), Some("actor: failed"));
    }
    actor.join().unwrap();
}

#[test]
fn the_cause_is_known_before_an_actor_lets_go_of_anything() {
    explore("end of an actor", || end_of_an_actor(true));
}

#[test]
#[should_panic(expected = "gone, and nobody knows why")]
fn letting_go_before_the_cause_is_known_would_be_found() {
    explore("end of an actor, lets go first", || end_of_an_actor(false));
}

/// When the commit log asks whether it may still answer.
#[derive(Clone, Copy, PartialEq)]
enum Asks {
    /// After the group is written, as it does.
    Last,
    /// Before it takes the group.
    TooEarly,
}

/// Something fails while two groups are written. What is sent by somebody who knows is never answered.
fn groups_after_a_failure(asks: Asks) {
    let (poison, answered) = (Poison::new(), Arc::new(AtomicU64::new(0)));
    let (to_log, groups) = mpsc::channel();
    let log = thread::spawn({
        let (poison, answered) = (poison.clone(), answered.clone());
        move || {
            for _ in 0..2 {
                let early = asks == Asks::TooEarly && poison.is_tripped();
                let group = groups.recv().unwrap();
                if early || (asks == Asks::Last && poison.is_tripped()) {
                    return;
                }
                answered.store(group, Ordering::Release);
            }
        }
    });
    let fails = thread::spawn({
        let poison = poison.clone();
        move || poison.trip("the disk".into())
    });
    to_log.send(1).unwrap();
    let known = poison.is_tripped();
    to_log.send(2).unwrap();
    log.join().unwrap();
    fails.join().unwrap();
    assert!(!known || answered.load(Ordering::Acquire) < 2, "acknowledged after the poison");
}

#[test]
fn nothing_is_acknowledged_after_the_poison() {
    explore("acknowledgements", || groups_after_a_failure(Asks::Last));
}

#[test]
#[should_panic(expected = "acknowledged after the poison")]
fn asking_before_the_group_is_written_would_be_found() {
    explore("acknowledgements, asked too early", || groups_after_a_failure(Asks::TooEarly));
}
