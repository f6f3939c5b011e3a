//! What a client knows over its deaths: a file of lines, appended before anything is sent and after
//! anything is answered. A line that death cut off was not written.
//!
//! ```text
//! round 165 265 1763861737123 3 17      requests 165 to 264, with that time and that version of a key
//! told 165 settled 412 9f3ae1...        what was answered, with a hash of all of it
//! again 12                              so many requests were sent again that had been sent
//! ```

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use crate::plan::{OPENING, Round, parse};

/// A client's file, and what is in it.
pub struct Memory {
    file: File,
    pub rounds: Vec<Round>,
    /// By number: the first answer.
    pub told: BTreeMap<u64, String>,
    /// Answers beyond the first, all of them like it.
    pub repeats: u64,
    /// Requests that were sent again, as far as the client itself did it.
    pub again: u64,
    /// The first number whose answers were not all the same, and both.
    pub differs: Option<String>,
}

impl Memory {
    pub fn open(path: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).read(true).open(path);
        let mut file = file.expect("a file that can be written");
        let mut text = String::new();
        file.read_to_string(&mut text).expect("text");
        let whole = text.rfind('\n').map_or(0, |last| last + 1);
        file.set_len(whole as u64).expect("it can be cut");
        let (rounds, told) = (Vec::new(), BTreeMap::new());
        let mut memory = Self { file, rounds, told, repeats: 0, again: 0, differs: None };
        text[..whole].lines().for_each(|line| memory.take(line));
        memory
    }

    fn take(&mut self, line: &str) {
        let mut words = line.splitn(3, ' ');
        let mut word = || words.next().expect("a word");
        match word() {
            "round" => {
                let numbers: Vec<u64> = line.split(' ').skip(1).map(parse).collect();
                let [first, end, millis, key, version] = numbers[..] else { panic!("{line}") };
                self.rounds.push(Round { first, end, millis, key, version });
            }
            "told" => {
                let (number, answer) = (parse(word()), word());
                self.hear(number, answer);
            }
            "again" => self.again += parse::<u64>(word()),
            other => panic!("nobody writes {other:?}"),
        }
    }

    fn hear(&mut self, number: u64, answer: &str) {
        let Some(first) = self.told.get(&number) else {
            self.told.insert(number, answer.to_owned());
            return;
        };
        self.repeats += 1;
        if first != answer && self.differs.is_none() {
            self.differs = Some(format!("{number} was told {first:?}, and then {answer:?}"));
        }
    }

    fn append(&mut self, text: &str) {
        // In one write: a signal comes before it or after it.
        self.file.write_all(text.as_bytes()).expect("there is room");
    }

    /// The number behind the last that was ever planned.
    pub fn end(&self) -> u64 {
        self.rounds.last().map_or(OPENING, |round| round.end)
    }

    /// Writes down what is sent next.
    pub fn plan(&mut self, round: Round) {
        let Round { first, end, millis, key, version } = round;
        self.append(&format!("round {first} {end} {millis} {key} {version}\n"));
        self.rounds.push(round);
    }

    /// Writes down answers, and how many of the requests had been sent before.
    pub fn tell(&mut self, answers: &[(u64, String)], again: u64) {
        let mut text = String::new();
        for (number, answer) in answers {
            text += &format!("told {number} {answer}\n");
            self.hear(*number, answer);
        }
        if again > 0 {
            text += &format!("again {again}\n");
            self.again += again;
        }
        self.append(&text);
    }

    /// Numbers that may have been sent.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        self.rounds.iter().flat_map(|round| round.first..round.end)
    }
}

#[test]
fn what_death_cut_off_was_not_written() {
    let room = tempfile::tempdir().expect("a directory");
    let path = room.path().join("memory");
    let round = Round { first: 200, end: 210, millis: 5, key: 1, version: 0 };
    let mut memory = Memory::open(&path);
    memory.plan(round);
    memory.tell(&[(200, "settled 7 aa".into()), (201, "rejected expired bb".into())], 0);
    memory.append("told 202 settl");
    let mut memory = Memory::open(&path);
    assert_eq!((memory.rounds.clone(), memory.end()), (vec![round], 210));
    assert_eq!(memory.told.len(), 2);
    memory.tell(&[(200, "settled 7 aa".into())], 1);
    assert_eq!((Memory::open(&path).repeats, Memory::open(&path).differs), (1, None));
    memory.tell(&[(201, "settled 8 bb".into())], 1);
    let memory = Memory::open(&path);
    assert_eq!(memory.again, 2);
    assert!(memory.differs.is_some_and(|it| it.contains("201 was told")));
}
