//! Replays every corpus, and goes on from it for a bounded number of steps, on any compiler.
//!
//! Longer runs, led by coverage: `tests/fuzz/README.md`. An input that broke something is added
//! to its corpus, by the name of what it broke.

mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngCore, SeedableRng};
use targets::{TARGETS, Target};

/// Inputs made from a corpus in one run of the tests; `WEFT_FUZZ_STEPS` makes it more.
const STEPS: usize = 1_500;
/// Bytes of an input.
const BYTES_MAX: usize = 64 << 10;
/// How deep the nests are that are always tried: far beyond what any of us writes.
const NESTING: usize = 20_000;

/// Pieces that parsers care for.
const PIECES: [&[u8]; 24] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"(",
    b")",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\n",
    b"=",
    b"${",
    b"<<EOF\n",
    b" and ",
    b" not ",
    b" matches ",
    b"*",
    b".",
    b"-1",
    b"1e999",
    b"\xff\xff\xff\xff",
    b"\x91\x91\x91\x91",
    b"\xdd\xff\xff\xff\xff",
];

#[test]
fn every_decoder_survives_its_corpus_and_what_grows_from_it() {
    let seed = number("WEFT_FUZZ_SEED").unwrap_or(1);
    let steps = number("WEFT_FUZZ_STEPS").and_then(|it| usize::try_from(it).ok()).unwrap_or(STEPS);
    for target in &TARGETS {
        let mut dice = StdRng::seed_from_u64(seed);
        let corpus = corpus(target.0);
        assert!(!corpus.is_empty(), "{} has a corpus", target.0);
        // An overflow of the stack ends the process: this is how one knows where.
        println!("fuzzing {}", target.0);
        for input in corpus.iter().cloned().chain(nests()) {
            try_one(target, seed, &input);
        }
        for _ in 0..steps {
            try_one(target, seed, &mutant(&corpus, &mut dice));
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn try_one(target: &Target, seed: u64, input: &[u8]) {
    let outcome = catch_unwind(AssertUnwindSafe(|| target.1(input)));
    if outcome.is_err() {
        let shown: String = input.iter().take(2_000).map(|byte| format!("{byte:02x}")).collect();
        panic!("{} broke (seed {seed}) on {} bytes: {shown}", target.0, input.len());
    }
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .map(|files| files.map(|file| file.expect("a file").path()).collect())
        .unwrap_or_default();
    files.sort();
    files.iter().map(|file| fs::read(file).expect("a readable input")).collect()
}

/// Inputs that nest without end, in every form that we read.
fn nests() -> impl Iterator<Item = Vec<u8>> {
    let pieces: [&[u8]; 10] =
        [b"[", b"{\"a\":", b"(", b"not ", b"a = [", b"a {\n", b"${", b"\x91", b"\x81\xa1a", b"a."];
    pieces.into_iter().flat_map(|piece| {
        // The second has the version byte of envelopes, the third a field before the nest.
        let nest = piece.repeat(NESTING);
        let enveloped = [b"\x01".as_slice(), &nest].concat();
        let inside = [b"{\"Config\":".as_slice(), &nest].concat();
        [nest, enveloped, inside]
    })
}

fn mutant(corpus: &[Vec<u8>], dice: &mut StdRng) -> Vec<u8> {
    let mut input = corpus.choose(dice).cloned().unwrap_or_default();
    for _ in 0..dice.random_range(1..6) {
        let at = dice.random_range(0..=input.len());
        let end = dice.random_range(at..=input.len());
        match dice.random_range(0..7) {
            0 if at < input.len() => input[at] ^= 1 << dice.random_range(0..8),
            1 if at < input.len() => input[at] = dice.next_u32().to_le_bytes()[0],
            2 => drop(input.drain(at..end)),
            3 => {
                let part = input[at..end].to_vec();
                let times = dice.random_range(1..40);
                input.splice(at..at, part.repeat(times));
            }
            4 => {
                let other = corpus.choose(dice).cloned().unwrap_or_default();
                let from = dice.random_range(0..=other.len());
                input.splice(at..end, other[from..].iter().copied());
            }
            _ => {
                let piece = PIECES.choose(dice).copied().unwrap_or_default();
                input.splice(at..at, piece.iter().copied());
            }
        }
        input.truncate(BYTES_MAX);
    }
    input
}
