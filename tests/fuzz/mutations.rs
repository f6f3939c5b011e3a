//! Inputs a little off from those that are known: a few changes to one, from a seed.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Numbers at whose edges lengths and counts break.
const EDGES: [u8; 8] = [0, 1, 0x7F, 0x80, 0x81, 0xFE, 0xFF, b'\n'];
const LENGTH_MAX: usize = 4_096;

/// Makes one input after another.
pub struct Mutator<'a> {
    random: SmallRng,
    inputs: &'a [Vec<u8>],
}

impl<'a> Mutator<'a> {
    /// Mutations of these, of which there is one at least.
    pub fn new(seed: u64, inputs: &'a [Vec<u8>]) -> Self {
        Self { random: SmallRng::seed_from_u64(seed), inputs }
    }

    /// The next one.
    pub fn next(&mut self) -> Vec<u8> {
        let mut input = self.known().clone();
        for _ in 0..self.random.random_range(1..=4) {
            self.change(&mut input);
        }
        input.truncate(LENGTH_MAX);
        input
    }

    fn known(&mut self) -> &'a Vec<u8> {
        &self.inputs[self.random.random_range(0..self.inputs.len())]
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.random.random_range(0..=input.len());
        let span = self.random.random_range(0..=(input.len() - at).min(16));
        match self.random.random_range(0..8) {
            0 => input.truncate(at),
            1 => drop(input.drain(at..at + span)),
            2 => input.insert(at, self.random.random()),
            3 => {
                let copied = input[at..at + span].to_vec();
                let to = self.random.random_range(0..=input.len());
                input.splice(to..to, copied);
            }
            4 => {
                let other = self.known();
                let from = self.random.random_range(0..=other.len());
                let to = other.len().min(from + 64);
                input.splice(at..at + span, other[from..to].iter().copied());
            }
            _ if at == input.len() => input.push(EDGES[self.random.random_range(0..EDGES.len())]),
            5 => input[at] ^= 1 << self.random.random_range(0..8),
            6 => input[at] = EDGES[self.random.random_range(0..EDGES.len())],
            _ => input[at] = input[at].wrapping_add(self.random.random_range(1..4)),
        }
    }
}
