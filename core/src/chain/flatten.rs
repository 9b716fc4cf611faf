//! Splitters behind splitters as one, by the product of their weights.

use std::collections::BTreeMap;

use super::{ChainNode, ChainSplit};
use crate::config_entry::{HeaderChanges, Weight};
use crate::limits;

/// Replaces each leg that leads to a splitter by that splitter's legs, which are flat already.
///
/// The parts of a leg add up to the leg: what is lost by rounding down goes, a hundredth each,
/// to the parts that lost most.
///
/// # Errors
/// When more than [`limits::SPLITS_PER_CHAIN_MAX`] legs result.
pub(super) fn flatten(
    legs: &[ChainSplit],
    nodes: &BTreeMap<String, ChainNode>,
) -> Result<Vec<ChainSplit>, String> {
    let mut flat = Vec::new();
    for leg in legs {
        match nodes.get(&leg.next_node) {
            Some(ChainNode::Splitter(inner)) => {
                let shares = shares(leg.weight, inner.splits.iter().map(|split| split.weight));
                let parts = shares.into_iter().zip(&inner.splits);
                flat.extend(parts.map(|(weight, split)| ChainSplit {
                    weight,
                    next_node: split.next_node.clone(),
                    request_headers: joined(&leg.request_headers, &split.request_headers),
                    response_headers: joined(&leg.response_headers, &split.response_headers),
                }));
            }
            Some(ChainNode::Resolver(_) | ChainNode::Router(_)) | None => flat.push(leg.clone()),
        }
        if flat.len() > limits::SPLITS_PER_CHAIN_MAX {
            let max = limits::SPLITS_PER_CHAIN_MAX;
            return Err(format!("with the splitters behind it, it has more than {max} legs"));
        }
    }
    Ok(flat)
}

/// Puts the changes of a leg before those of the splitter that it leads to.
fn joined(outer: &[HeaderChanges], inner: &[HeaderChanges]) -> Vec<HeaderChanges> {
    [outer, inner].concat()
}

/// Divides a weight in the proportion of others that add up to [`Weight::FULL`].
fn shares(whole: Weight, parts: impl Iterator<Item = Weight>) -> Vec<Weight> {
    let full = Weight::FULL.hundredths();
    let products: Vec<u32> = parts.map(|part| whole.hundredths() * part.hundredths()).collect();
    let mut shares: Vec<u32> = products.iter().map(|product| product / full).collect();
    let mut by_loss: Vec<usize> = (0..products.len()).collect();
    by_loss.sort_by_key(|at| std::cmp::Reverse(products[*at] % full));
    let missing = whole.hundredths().saturating_sub(shares.iter().sum());
    for at in by_loss.into_iter().take(missing as usize) {
        shares[at] += 1;
    }
    let weight = |hundredths| Weight::from_hundredths(hundredths).unwrap_or(Weight::FULL);
    shares.into_iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(whole: u32, parts: &[u32], wanted: &[u32]) {
        let weight = |hundredths| Weight::from_hundredths(hundredths).expect("at most 100 %");
        let shares = shares(weight(whole), parts.iter().map(|part| weight(*part)));
        let shares: Vec<u32> = shares.into_iter().map(Weight::hundredths).collect();
        assert_eq!(shares, wanted, "{whole} by {parts:?}");
        assert_eq!(shares.iter().sum::<u32>(), whole);
    }

    #[test]
    fn parts_add_up_to_the_leg() {
        check(5_000, &[5_000, 5_000], &[2_500, 2_500]);
        check(3_333, &[3_333, 3_333, 3_334], &[1_111, 1_111, 1_111]);
        check(1, &[5_000, 5_000], &[1, 0]);
        check(100, &[3_334, 3_333, 3_333], &[34, 33, 33]);
        check(0, &[9_000, 1_000], &[0, 0]);
    }
}
