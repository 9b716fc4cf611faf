//! Network coordinates: kept and told as agents report them.
//!
//! **Source**: Consul: api-docs/coordinate.

use std::collections::BTreeSet;
use std::iter::zip;
use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::{Answer, Change, NodeKey, Refusal, State};
use crate::index::Index;
use crate::name::NodeName;

/// Where a node is, in a space in which distance is round-trip time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NodeCoordinate {
    /// The node.
    pub node: NodeName,
    /// The network segment; empty for the only one.
    #[serde(default)]
    pub segment: String,
    /// Where it is.
    pub coord: Coordinate,
}

/// A point.
///
/// **Units**: seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Coordinate {
    /// The position.
    pub vec: Vec<f64>,
    /// How far to trust it; 1.5 knows nothing.
    pub error: f64,
    /// Added to every distance.
    pub adjustment: f64,
    /// The way from the node to its network.
    pub height: f64,
}

impl Coordinate {
    /// Dimensions of the space.
    ///
    /// **Source**: Consul: docs/architecture/coordinates: eight and a height.
    pub const DIMENSIONS: usize = 8;

    /// Whether it is a point of this space.
    pub fn is_valid(&self) -> bool {
        let numbers = self.vec.iter().chain([&self.error, &self.adjustment, &self.height]);
        self.vec.len() == Self::DIMENSIONS && numbers.into_iter().all(|number| number.is_finite())
    }

    /// Estimates the time to another point and back. It is the same both ways.
    ///
    /// **Units**: seconds; never negative for points with heights that are not.
    ///
    /// **Source**: Consul: docs/architecture/coordinates#working-with-coordinates: the straight way
    /// and both heights; what measurements have shown to be off is added unless nothing would be left.
    pub fn round_trip_seconds(&self, other: &Self) -> f64 {
        let squares = zip(&self.vec, &other.vec).map(|(a, b)| (a - b) * (a - b));
        let way = squares.sum::<f64>().sqrt() + self.height + other.height;
        let adjusted = way + self.adjustment + other.adjustment;
        if adjusted > 0.0 { adjusted } else { way }
    }
}

/// The coordinates of all nodes.
#[derive(Debug, Default, Clone)]
pub struct CoordinateTable {
    by_node: OrdMap<NodeKey, Arc<NodeCoordinate>>,
    index: Index,
}

/// A [`CoordinateTable`] as records.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct CoordinateSnapshot {
    #[serde(default)]
    nodes: Vec<Arc<NodeCoordinate>>,
    #[serde(default)]
    index: Index,
}

impl CoordinateSnapshot {
    /// Makes no record later than `most`.
    pub(super) fn bring_before(&mut self, most: Index) {
        self.index = self.index.min(most);
    }
}

impl CoordinateTable {
    /// Returns all coordinates, by node.
    pub fn list(&self) -> impl Iterator<Item = &Arc<NodeCoordinate>> {
        self.by_node.values()
    }

    /// Returns that of a node; names are compared without regard to case.
    pub fn of_node(&self, node: &NodeName) -> Option<&Arc<NodeCoordinate>> {
        self.by_node.get(&NodeKey::from(node))
    }

    /// Returns when any of them last changed.
    pub fn index(&self) -> Index {
        self.index
    }

    pub(super) fn to_snapshot(&self) -> CoordinateSnapshot {
        CoordinateSnapshot { nodes: self.by_node.values().cloned().collect(), index: self.index }
    }

    pub(super) fn from_snapshot(snapshot: CoordinateSnapshot) -> Self {
        let by_node = snapshot.nodes.into_iter().map(|it| (NodeKey::from(&it.node), it)).collect();
        Self { by_node, index: snapshot.index }
    }
}

impl State {
    /// Returns the coordinates of nodes.
    pub fn coordinates(&self) -> &CoordinateTable {
        &self.coordinates
    }

    pub(super) fn set_coordinate(
        &mut self,
        index: Index,
        mut coordinate: NodeCoordinate,
        changes: &mut BTreeSet<Change>,
    ) -> Result<Answer, Refusal> {
        if !coordinate.coord.is_valid() {
            return Err(Refusal::InvalidEntry("Coord: is not a point of 8 dimensions".to_owned()));
        }
        let key = NodeKey::from(&coordinate.node);
        let row = self.nodes.get(&key).ok_or(Refusal::SessionNodeMissing)?;
        coordinate.node = row.node.name.clone();
        if self.coordinates.by_node.get(&key).is_some_and(|present| **present == coordinate) {
            return Ok(Answer::Done { changed: false });
        }
        self.coordinates.by_node.insert(key, Arc::new(coordinate));
        self.coordinates.index = index;
        changes.insert(Change::Coordinates);
        Ok(Answer::Done { changed: true })
    }

    /// Forgets the coordinate of a node that is gone.
    pub(super) fn settle_coordinate(
        &mut self,
        index: Index,
        node: &NodeKey,
        changes: &mut BTreeSet<Change>,
    ) {
        if !self.nodes.contains_key(node) && self.coordinates.by_node.remove(node).is_some() {
            self.coordinates.index = index;
            changes.insert(Change::Coordinates);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(x: f64, height: f64, adjustment: f64) -> Coordinate {
        let mut vec = vec![0.0; Coordinate::DIMENSIONS];
        vec[0] = x;
        Coordinate { vec, error: 1.5, adjustment, height }
    }

    #[test]
    fn a_round_trip_is_the_way_with_both_heights_and_what_was_measured() {
        for (a, b, expected) in [
            (point(0.0, 0.0, 0.0), point(0.003, 0.0, 0.0), 0.003),
            (point(0.0, 0.001, 0.0), point(0.003, 0.002, 0.0), 0.006),
            (point(0.0, 0.001, 0.0005), point(0.003, 0.002, -0.002), 0.0045),
            // More was taken off than there is.
            (point(0.0, 0.001, -0.5), point(0.003, 0.002, 0.0), 0.006),
        ] {
            for found in [a.round_trip_seconds(&b), b.round_trip_seconds(&a)] {
                assert!((found - expected).abs() < 1e-9, "{a:?} {b:?}: {found}");
            }
        }
    }
}
