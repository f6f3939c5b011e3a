//! A terminal that is drawn on: keys come as they are pressed and are not shown, the screen is one of
//! its own, and all is as before at the end.

use std::io::{self, IsTerminal, Read, Write, stdin, stdout};

use crossbeam::channel::Sender;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Another screen, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the upper left corner.
const HOME: &str = "\x1b[H";
/// The rest of the line, and of the screen, is empty.
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_REST: &str = "\x1b[J";

/// A terminal while it is drawn on.
pub(super) struct Screen {
    /// As it was before; `None` where keys do not come from a terminal.
    before: Option<Termios>,
}

impl Screen {
    /// Takes the terminal, if there is one.
    ///
    /// # Errors
    /// It cannot be written to.
    pub(super) fn enter() -> io::Result<Option<Self>> {
        if !stdout().is_terminal() {
            return Ok(None);
        }
        let before = if stdin().is_terminal() { quiet()? } else { None };
        let mut out = stdout().lock();
        out.write_all(ENTER.as_bytes())?;
        out.flush()?;
        Ok(Some(Self { before }))
    }

    /// Puts these lines in the place of what is there.
    ///
    /// # Errors
    /// It cannot be written to.
    pub(super) fn draw(&self, lines: &[String]) -> io::Result<()> {
        let mut frame = String::from(HOME);
        for line in lines {
            frame += &format!("{line}{CLEAR_LINE}\r\n");
        }
        frame += CLEAR_REST;
        let mut out = stdout().lock();
        out.write_all(frame.as_bytes())?;
        out.flush()
    }
}

/// No echo, and no waiting for the end of the line; Ctrl-C stays what it is.
fn quiet() -> io::Result<Option<Termios>> {
    let before = tcgetattr(stdin())?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
    tcsetattr(stdin(), OptionalActions::Now, &quiet)?;
    Ok(Some(before))
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // There is nobody to tell.
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
        let mut out = stdout().lock();
        let _ = out.write_all(LEAVE.as_bytes()).and_then(|()| out.flush());
    }
}

/// Says when q is pressed. The thread ends with the process.
pub(super) fn wait_for_q(end: Sender<()>) {
    let wait = move || {
        for key in stdin().lock().bytes() {
            if matches!(key, Ok(b'q' | b'Q')) {
                // Somebody else may have said it.
                let _ = end.try_send(());
                return;
            }
        }
    };
    // Without it, Ctrl-C still ends it.
    let _ = std::thread::Builder::new().name("keys".into()).spawn(wait);
}
