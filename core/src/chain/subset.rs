//! Which of many instances one caller calls.

use super::Endpoint;
use crate::traffic::hash_of;

/// Leaves so many endpoints to a caller: those whose hash together with the caller is highest.
///
/// Each caller draws anew, so instances have about the same number of callers; when one comes or goes, a caller loses
/// or gets that one alone.
///
/// **Source**: Thaler, Ravishankar: A Name-Based Mapping Scheme for Rendezvous, 1996.
pub fn subset(mut endpoints: Vec<Endpoint>, size: u32, caller: &str) -> Vec<Endpoint> {
    let size = usize::try_from(size.max(1)).unwrap_or(usize::MAX);
    if endpoints.len() <= size {
        return endpoints;
    }
    let seed = hash_of(caller.as_bytes(), 0);
    endpoints.sort_by_cached_key(|endpoint| {
        let rank = hash_of(endpoint.address.to_string().as_bytes(), seed);
        (std::cmp::Reverse(rank), endpoint.clone())
    });
    endpoints.truncate(size);
    endpoints.sort();
    endpoints
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn endpoints(count: usize) -> Vec<Endpoint> {
        let endpoint = |number: usize| Endpoint {
            address: format!("10.0.{}.{}:21000", number / 200, number % 200).parse().expect("one"),
            weight: 1,
            tier: 0,
            instance: format!("web-{number}").parse().expect("an id"),
        };
        let mut endpoints: Vec<Endpoint> = (0..count).map(endpoint).collect();
        endpoints.sort();
        endpoints
    }

    fn of(all: &[Endpoint], size: u32, caller: usize) -> Vec<Endpoint> {
        subset(all.to_vec(), size, &format!("shop-{caller}-sidecar-proxy"))
    }

    #[test]
    fn each_caller_has_as_many_as_is_said_and_instances_about_the_same_number_of_callers() {
        let all = endpoints(100);
        let mut callers: BTreeMap<Endpoint, u32> = BTreeMap::new();
        for caller in 0..1_000 {
            let own = of(&all, 10, caller);
            assert_eq!(own.len(), 10);
            assert!(own.is_sorted());
            own.into_iter().for_each(|it| *callers.entry(it).or_default() += 1);
        }
        let (least, most) = (callers.values().min(), callers.values().max());
        assert_eq!(callers.len(), 100);
        // A hundred each; by chance, a deviation is 9.5.
        assert!(
            least.is_some_and(|it| *it >= 65) && most.is_some_and(|it| *it <= 135),
            "{callers:?}"
        );
        assert_eq!(of(&all[..7], 10, 1), all[..7]);
    }

    #[test]
    fn when_one_comes_or_goes_nothing_else_changes() {
        let all = endpoints(50);
        for caller in 0..100 {
            let before = of(&all, 8, caller);
            let gone = before[caller % 8].clone();
            let left: Vec<Endpoint> = all.iter().filter(|it| **it != gone).cloned().collect();
            let after = of(&left, 8, caller);
            let kept = after.iter().filter(|it| before.contains(it)).count();
            assert_eq!((after.len(), kept), (8, 7));
        }
    }
}
