//! Drawing endpoints in proportion to their weights.

use crate::traffic::Mix64;

/// The weights of some endpoints, ready to be drawn from.
#[derive(Debug)]
pub(super) struct Shares {
    /// Where each endpoint's part ends; `None` while all weigh the same.
    ends: Option<Box<[u32]>>,
    weights: Box<[u16]>,
    total: u32,
}

impl Shares {
    /// Takes weights; 0 counts as 1.
    pub(super) fn new(weights: impl Iterator<Item = u16>) -> Self {
        let weights: Box<[u16]> = weights.map(|weight| weight.max(1)).collect();
        let is_even = weights.windows(2).all(|pair| pair[0] == pair[1]);
        let mut total = 0u32;
        let ends = weights.iter().map(|weight| {
            total = total.saturating_add(u32::from(*weight));
            total
        });
        let ends: Box<[u32]> = ends.collect();
        Self { ends: (!is_even).then_some(ends), weights, total }
    }

    pub(super) fn len(&self) -> usize {
        self.weights.len()
    }

    /// Returns the number of places; each endpoint has as many as it weighs, or one where all
    /// weigh the same.
    pub(super) fn places(&self) -> u32 {
        match &self.ends {
            Some(_) => self.total,
            None => u32::try_from(self.weights.len()).unwrap_or(u32::MAX),
        }
    }

    /// Returns whose a place is.
    pub(super) fn at(&self, place: u32) -> usize {
        match &self.ends {
            Some(ends) => ends.partition_point(|end| *end <= place),
            None => place as usize,
        }
    }

    /// Draws one. There must be one.
    pub(super) fn draw(&self, random: &mut Mix64) -> usize {
        self.at(random.below(self.places()))
    }

    /// Draws another one than that, of at least two; where weights differ, that one may come again.
    pub(super) fn draw_other(&self, than: usize, random: &mut Mix64) -> usize {
        match self.ends {
            Some(_) => Some(self.draw(random))
                .filter(|it| *it != than)
                .unwrap_or_else(|| self.draw(random)),
            None => (than + 1 + random.below(self.places() - 1) as usize) % self.len(),
        }
    }

    /// Returns an endpoint's weight, of which the mean is 1.
    pub(super) fn relative(&self, number: usize) -> f64 {
        match &self.ends {
            Some(_) => self.share(number) * self.weights.len() as f64,
            None => 1.0,
        }
    }

    /// Returns an endpoint's share of all.
    pub(super) fn share(&self, number: usize) -> f64 {
        f64::from(self.weights[number]) / f64::from(self.total)
    }
}
