//! What every actor is made of: a bounded mailbox, a named thread, and the poison.
//!
//! An actor ends in one of two ways. When every sender of its mailbox is gone it has drained
//! what was left and returns: that is how a graceful stop runs downhill through the rooms. Or
//! the engine is poisoned: the first storage error or panic anywhere trips the [`Poison`], every
//! actor that waits wakes up, and nothing more is acknowledged (I4).

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded};
use tokio::sync::{oneshot, watch};

use crate::error::Error;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, OnceLock};

/// The engine's one-way switch. Cheap to clone; every clone is the same switch.
#[derive(Clone)]
pub struct Poison {
    shared: Arc<PoisonShared>,
}

struct PoisonShared {
    /// Nothing is ever sent: dropping the sender is the signal, and it reaches every receiver.
    switch: Switch<Sender<Infallible>>,
    /// Whether the engine is being stopped on purpose.
    stopping: AtomicBool,
    listener: Receiver<Infallible>,
    tripped: watch::Sender<bool>,
    /// Whether no answer comes any more: tripped, or stopped on purpose.
    ended: watch::Sender<bool>,
}

impl Default for Poison {
    fn default() -> Self {
        Self::new()
    }
}

impl Poison {
    /// Not tripped.
    pub fn new() -> Self {
        let (alarm, listener) = bounded(0);
        let shared = PoisonShared {
            switch: Switch::new(alarm),
            stopping: AtomicBool::new(false),
            listener,
            tripped: watch::Sender::new(false),
            ended: watch::Sender::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Stops the engine for the cause given. Only the first cause counts.
    pub fn trip(&self, cause: String) {
        self.shared.switch.trip(cause, |cause| {
            tracing::error!(cause, "the engine stops: nothing more is acknowledged");
        });
        self.shared.tripped.send_replace(true);
        self.shared.ended.send_replace(true);
    }

    /// Notes that every actor has ended: whoever still waits for an answer waits no longer.
    pub fn close(&self) {
        self.shared.ended.send_replace(true);
    }

    /// Why the engine stopped; `None` while it runs.
    pub fn cause(&self) -> Option<String> {
        self.shared.switch.cause().cloned()
    }

    /// Whether the engine stopped.
    pub fn is_tripped(&self) -> bool {
        self.shared.switch.cause().is_some()
    }

    /// Notes that the engine is being stopped on purpose: an answer that does not come has no other cause.
    pub fn set_stopping(&self) {
        self.shared.stopping.store(true, Ordering::Release);
    }

    /// Whether the engine is being stopped on purpose.
    pub fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Acquire)
    }

    /// Waits for a reply, or for the end of the engine, whichever comes first. A channel does not
    /// drop what is in it when its receiver goes, so a reply may neither come nor be dropped.
    ///
    /// # Errors
    /// [`Error::Stopped`] with the cause.
    pub async fn or_stopped<T>(&self, reply: oneshot::Receiver<T>) -> Result<T, Error> {
        tokio::select! {
            biased;
            answered = reply => match answered {
                Ok(answer) => return Ok(answer),
                // A panic drops replies before it is caught: the cause is on its way.
                Err(_) if self.is_stopping() => {}
                Err(_) => drop(self.tripped().await),
            },
            () = until(&self.shared.ended) => {}
        }
        Err(self.stopped())
    }

    /// The error for whoever gets no answer.
    pub fn stopped(&self) -> Error {
        Error::Stopped { cause: self.cause().unwrap_or_else(|| "the engine was stopped".into()) }
    }

    /// Waits in a task until the engine stops for a cause.
    pub async fn tripped(&self) -> String {
        until(&self.shared.tripped).await;
        self.cause().unwrap_or_default()
    }

    /// Waits in a task until no answer comes any more: the engine was stopped, for a cause or on purpose.
    pub async fn ended(&self) {
        until(&self.shared.ended).await;
    }

    /// A receiver that never yields, and disconnects when the engine stops: for `select!`.
    pub fn listener(&self) -> &Receiver<Infallible> {
        &self.shared.listener
    }
}

/// A cause, and an alarm that goes off behind it, once. Who hears the alarm finds the cause.
pub struct Switch<A> {
    cause: OnceLock<String>,
    /// It goes off by being dropped.
    alarm: Mutex<Option<A>>,
}

impl<A> Switch<A> {
    /// Not tripped.
    pub fn new(alarm: A) -> Self {
        Self { cause: OnceLock::new(), alarm: Mutex::new(Some(alarm)) }
    }

    /// Trips it, if nobody has: then `say` is told the cause before the alarm goes off. Whoever was
    /// first, when this returns there is a cause and the alarm has gone off.
    pub fn trip(&self, cause: String, say: impl FnOnce(&str)) {
        if self.cause.set(cause).is_ok()
            && let Some(cause) = self.cause.get()
        {
            say(cause);
        }
        // Dropped under the lock: who finds it gone knows that it has gone off.
        let mut alarm = self.alarm.lock().unwrap_or_else(PoisonError::into_inner);
        drop(alarm.take());
    }

    /// Why it was tripped; `None` while it is not.
    pub fn cause(&self) -> Option<&String> {
        self.cause.get()
    }
}

async fn until(switch: &watch::Sender<bool>) {
    // The sender outlives the wait, so waiting cannot fail.
    let _ = switch.subscribe().wait_for(|on| *on).await;
}

/// Why there is nothing more to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every sender is gone and every message was taken.
    Drained,
    /// The engine is poisoned.
    Poisoned,
}

/// The receiving end of an actor's bounded mailbox.
pub struct Mailbox<T> {
    messages: Receiver<T>,
    poison: Poison,
}

impl<T> Mailbox<T> {
    /// A mailbox for `capacity` messages, and its sender: sending waits for room.
    pub fn new(capacity: usize, poison: &Poison) -> (Sender<T>, Self) {
        let (sender, messages) = bounded(capacity);
        (sender, Self { messages, poison: poison.clone() })
    }

    /// The next message; waits for one.
    ///
    /// # Errors
    /// [`Ended`] when none can come any more.
    pub fn recv(&self) -> Result<T, Ended> {
        match self.try_recv() {
            Ok(Some(message)) => return Ok(message),
            Ok(None) => {}
            Err(ended) => return Err(ended),
        }
        crossbeam::channel::select! {
            recv(self.messages) -> message => message.map_err(|_| Ended::Drained),
            recv(self.poison.listener()) -> _ => Err(Ended::Poisoned),
        }
    }

    /// The next message if one is there.
    ///
    /// # Errors
    /// [`Ended`] when none can come any more.
    pub fn try_recv(&self) -> Result<Option<T>, Ended> {
        if self.poison.is_tripped() {
            return Err(Ended::Poisoned);
        }
        match self.messages.try_recv() {
            Ok(message) => Ok(Some(message)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Ended::Drained),
        }
    }

    /// Messages waiting.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether none is waiting.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The channel itself, for an actor that waits for several.
    pub fn receiver(&self) -> &Receiver<T> {
        &self.messages
    }
}

/// Starts an actor on a thread of its own. Its error, or its panic, poisons the engine before
/// anything is dropped that `body` owns: whoever loses a channel to it finds the cause.
///
/// # Errors
/// [`Error::Storage`] when the operating system gives no thread.
pub fn spawn(
    name: String,
    poison: &Poison,
    body: impl FnMut() -> Result<(), String> + Send + 'static,
) -> Result<JoinHandle<()>, Error> {
    let poison = poison.clone();
    let thread_name = name.clone();
    std::thread::Builder::new()
        .name(name)
        .spawn(move || run(&thread_name, &poison, body))
        .map_err(|error| Error::Storage(format!("cannot start a thread: {error}")))
}

/// What the thread of an actor does: see [`spawn`].
pub fn run(name: &str, poison: &Poison, mut body: impl FnMut() -> Result<(), String>) {
    // The state that a panic may have torn is dropped with the actor: nothing reads it again.
    // It lives in `body`, which is lent and not given, and so outlives the poisoning.
    match catch_unwind(AssertUnwindSafe(&mut body)) {
        Ok(Ok(())) => {}
        Ok(Err(cause)) => poison.trip(format!("{name}: {cause}")),
        Err(panic) => poison.trip(format!("{name} panicked: {}", message_of(&*panic))),
    }
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_wakes_every_actor_that_waits() {
        let poison = Poison::new();
        let (sender, mailbox) = Mailbox::<u8>::new(1, &poison);
        let waiting = spawn("waits".into(), &poison, move || {
            assert_eq!(mailbox.recv(), Err(Ended::Poisoned));
            Ok(())
        });
        let panics = spawn("breaks".into(), &poison, || panic!("on purpose"));
        panics.expect("spawned").join().expect("caught");
        waiting.expect("spawned").join().expect("woken");
        assert_eq!(poison.cause().as_deref(), Some("breaks panicked: on purpose"));
        drop(sender);
    }

    /// Notes, when it is dropped, whether the engine was poisoned by then.
    struct Last(Poison, Sender<bool>);

    impl Drop for Last {
        fn drop(&mut self) {
            self.1.send(self.0.is_tripped()).expect("room");
        }
    }

    #[test]
    fn the_cause_is_known_before_an_actor_lets_go_of_anything() {
        for panics in [true, false] {
            let poison = Poison::new();
            let (sender, was_tripped) = bounded(1);
            let last = Last(poison.clone(), sender);
            let fails = spawn("fails".into(), &poison, move || {
                let _owned = &last;
                if panics { panic!("on purpose") } else { Err("on purpose".into()) }
            });
            fails.expect("spawned").join().expect("caught");
            assert_eq!(was_tripped.recv(), Ok(true), "panics: {panics}");
        }
    }

    #[test]
    fn a_mailbox_is_drained_before_it_ends() {
        let (sender, mailbox) = Mailbox::new(2, &Poison::new());
        sender.send(1).expect("room");
        drop(sender);
        assert_eq!(mailbox.recv(), Ok(1));
        assert_eq!(mailbox.recv(), Err(Ended::Drained));
    }

    #[test]
    fn a_reply_that_nobody_will_send_ends_with_the_engine() {
        let poison = Poison::new();
        let (never_sent, reply) = oneshot::channel::<()>();
        let waiting = {
            let poison = poison.clone();
            std::thread::spawn(move || pollster::block_on(poison.or_stopped(reply)))
        };
        poison.trip("the disk failed".into());
        let stopped = Error::Stopped { cause: "the disk failed".into() };
        assert_eq!(waiting.join().expect("woken"), Err(stopped));
        drop(never_sent);
    }

    #[test]
    fn only_the_first_cause_counts() {
        let poison = Poison::new();
        poison.trip("first".into());
        poison.trip("second".into());
        assert_eq!(poison.cause().as_deref(), Some("first"));
    }
}
