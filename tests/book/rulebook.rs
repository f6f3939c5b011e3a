//! Runs `rules/`: what the rulebook says, case by case, as scripts for both books.
//!
//! A file is sections: commands (`command` has most of them), `---`, what must come of them, an empty
//! line. `#` begins a remark. A file starts with an empty book of tick 1 for 100 orders. Besides there
//! are
//!
//! ```text
//! book tick 5, 3 orders          an empty book from here on
//! show                           every level, best first: its price, its sum, its orders with their slots
//! restart                        all orders into a fresh book, from the old one's lists
//! ```
//!
//! After every command the events must add up (`ledger`), a refusal must have changed nothing, and all
//! ways of asking must agree. `UPDATE_SCRIPTS=1` writes what the naive book says now into the files:
//! look at the difference before you keep it.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crosslatch::market::Book;
use crosslatch::market::order::{Event, Level, OrderId, Price, Resting, Side, Slot};

use crate::Rules;
use crate::command::{self, Command, Name, Number, parse_number};
use crate::ledger::Ledger;
use crate::naive::Naive;

const SIDES: [Side; 2] = [Side::Sell, Side::Buy];

#[test]
fn the_naive_book_plays_by_the_rules() {
    for file in files() {
        let text = std::fs::read_to_string(&file).unwrap();
        let said = run::<Naive>(&text);
        if std::env::var_os("UPDATE_SCRIPTS").is_some() {
            std::fs::write(&file, said).unwrap();
        } else {
            compare(&file, &text, &said);
        }
    }
}

#[test]
fn the_book_plays_by_the_rules() {
    for file in files() {
        let text = std::fs::read_to_string(&file).unwrap();
        println!("{}", file.display());
        compare(&file, &text, &run::<Book>(&text));
    }
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/book/rules");
    let entries = std::fs::read_dir(folder).expect("a folder of scripts");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(files.len() > 10, "most rules have no script");
    files
}

fn compare(file: &Path, text: &str, said: &str) {
    let line = text.lines().zip(said.lines()).take_while(|(old, new)| old == new).count();
    let place = format!("{}:{}", file.display(), line + 1);
    assert!(text == said, "{place}: expected\n\n{text}\n\nbut the book says\n\n{said}");
}

/// The script with what the book says in place of what is expected.
fn run<B: Rules>(text: &str) -> String {
    let mut script = Script::<B>::new(1, 100);
    let mut said = String::new();
    let mut lines = text.lines();
    let mut output: Vec<String> = Vec::new();
    while let Some(line) = lines.next() {
        said += line;
        said.push('\n');
        if line == "---" {
            for line in output.drain(..) {
                said += &line;
                said.push('\n');
            }
            // The old output, up to the empty line that ends it.
            if lines.by_ref().any(str::is_empty) {
                said.push('\n');
            }
        } else if !line.is_empty() && !line.starts_with('#') {
            println!("    {line}"); // when a command panics, it is the last one shown
            output.extend(script.line(line));
        }
    }
    assert!(output.is_empty(), "a last section without ---");
    said
}

struct Script<B> {
    book: B,
    ledger: Ledger,
    tick: u64,
    orders_max: u32,
}

impl<B: Rules> Script<B> {
    fn new(tick: u64, orders_max: u32) -> Self {
        let book = B::new(Price(tick), orders_max);
        Self { book, ledger: Ledger::default(), tick, orders_max }
    }

    fn line(&mut self, line: &str) -> Vec<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["book", "tick", tick, orders, "orders"] => {
                let tick = parse_number(tick.trim_end_matches(','));
                *self = Self::new(tick, orders.parse().expect("a number of orders"));
                vec![]
            }
            ["show"] => show(&self.book),
            ["restart"] => {
                self.restart();
                vec![]
            }
            _ => self.tell(&Command::parse(line)),
        }
    }

    fn tell(&mut self, command: &Command) -> Vec<String> {
        // The buffer is the caller's: what was in it stays.
        let before = Event::Moved {
            id: OrderId(0),
            slot: Slot(0),
            price: Price(0),
            lots: Default::default(),
        };
        let mut events = vec![before];
        let was = show(&self.book);
        let answer = self.book.carry_out(command, &mut events);
        assert_eq!(events.remove(0), before);
        self.ledger.enter(command, &answer, &events);
        self.ledger.check_book(&self.book);
        check_answers(&self.book);
        if let (Command::Restore(order), Ok(Some(slot))) = (*command, answer) {
            assert_eq!(self.book.order(order.id), Some((slot, order)), "restored as it stood");
        }
        match answer {
            Err(refusal) => {
                assert_eq!(was, show(&self.book), "refused, and yet something has changed");
                vec![format!("refused: {refusal}")]
            }
            Ok(Some(slot)) => vec![format!("restored [{}]", slot.0)],
            Ok(None) if events.is_empty() => vec!["nothing happens".into()],
            Ok(None) => events.iter().map(command::event).collect(),
        }
    }

    fn restart(&mut self) {
        let mut fresh = Self::new(self.tick, self.orders_max);
        for (_, order) in SIDES.into_iter().flat_map(|side| self.book.orders(side)) {
            fresh.tell(&Command::Restore(order));
        }
        *self = fresh;
    }
}

/// All that stands, a line a level.
fn show(book: &impl Rules) -> Vec<String> {
    let mut lines: Vec<String> = SIDES
        .into_iter()
        .flat_map(|side| book.levels(side).map(move |(price, level)| (side, price, level)))
        .map(|(side, price, level)| show_level(book, side, price, level))
        .collect();
    if book.is_empty() {
        lines.push("nothing stands".into());
    }
    lines.extend(book.next_expiry().map(|time| format!("next expiry {}", Number(time))));
    lines
}

fn show_level(book: &impl Rules, side: Side, price: Price, level: Level) -> String {
    let side_name = match side {
        Side::Buy => "buy",
        Side::Sell => "sell",
    };
    let mut line = format!("{side_name} {}: {} =", Number(price.0), level.lots);
    for (slot, Resting { id, owner, lots, .. }) in
        book.orders(side).filter(|(_, order)| order.price == price)
    {
        let (id, lots) = (Number(id.0), Number(lots.0));
        write!(line, " {id} {} {lots} [{}],", Name(owner), slot.0).expect("a string takes it");
    }
    line.trim_end_matches(',').into()
}

/// Whatever way one asks, the answers are those that the lists of orders give.
fn check_answers(book: &impl Rules) {
    for side in SIDES {
        let orders: Vec<(Slot, Resting)> = book.orders(side).collect();
        let groups = orders.chunk_by(|(_, one), (_, next)| one.price == next.price);
        let levels: Vec<(Price, Level)> = groups
            .map(|group| {
                let lots = group.iter().map(|(_, order)| u128::from(order.lots.0)).sum();
                (group[0].1.price, Level { lots, orders: group.len() as u32 })
            })
            .collect();
        assert_eq!(book.levels(side).collect::<Vec<_>>(), levels);
        assert_eq!(book.best(side), levels.first().map(|(price, _)| *price));
        for (price, level) in levels {
            assert_eq!(book.level(side, price), level);
        }
        for (slot, order) in &orders {
            assert_eq!(book.order(order.id), Some((*slot, *order)));
            assert_eq!(order.side, side);
        }
    }
    let all: Vec<Resting> =
        SIDES.iter().flat_map(|side| book.orders(*side)).map(|it| it.1).collect();
    assert_eq!(book.len(), all.len());
    assert_eq!(book.is_empty(), all.is_empty());
    assert_eq!(book.next_expiry(), all.iter().filter_map(|order| order.ends_at).min());
    // Numbers that no script uses.
    assert_eq!(book.order(OrderId(u64::MAX / 3)), None);
    for price in [Price(0), Price(u64::MAX / 3)] {
        assert_eq!(SIDES.map(|side| book.level(side, price)), [Level::default(); 2]);
    }
}
