//! The bodies of `/v1/coordinate/…` that are not records.
//!
//! **Source**: Consul: api-docs/coordinate.

use serde::{Deserialize, Serialize};
use weft_core::name::Datacenter;
use weft_core::state::NodeCoordinate;

use super::{Fault, Unknown, from_slice};

/// The servers of a datacenter, with where they are seen from others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DatacenterCoordinates {
    /// The datacenter.
    pub datacenter: Datacenter,
    /// Always `wan`.
    #[serde(rename = "AreaID")]
    pub area_id: String,
    /// Always empty: servers of different datacenters do not measure one another.
    pub coordinates: Vec<NodeCoordinate>,
}

/// Decodes the body of `PUT /v1/coordinate/update`.
///
/// # Errors
/// Every fault, by field.
pub fn decode_update(body: &[u8]) -> Result<NodeCoordinate, Vec<Fault>> {
    let update: NodeCoordinate = from_slice(body, Unknown::Ignore)?;
    if update.coord.is_valid() {
        return Ok(update);
    }
    Err(vec![Fault::new("Coord", "must be 8 numbers in Vec, with Error, Adjustment and Height")])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_points_of_the_space_are_taken() {
        let body = |vec: &str| {
            format!(
                r#"{{"Node":"n1","Coord":{{"Vec":{vec},"Error":1.5,"Adjustment":0,"Height":1e-5}}}}"#
            )
        };
        let update = decode_update(body("[0,0,0,0,0,0,0,0.5]").as_bytes()).expect("a coordinate");
        assert_eq!(update.coord.vec.len(), 8);
        assert!(decode_update(body("[0]").as_bytes()).is_err());
        assert!(decode_update(b"{}").is_err());
    }
}
