//! Lines of Prometheus' text form.

use std::fmt::{Display, Write as _};
use std::sync::Arc;

use weft_core::traffic::flow::HISTOGRAM_BOUNDS as BOUNDS;

use super::super::text;
use super::FlowKey;
use super::counts::{Buckets, GRPC_OTHER, Sum};

/// A page under way. Writing into a String cannot fail.
pub(super) struct Page<'a>(pub(super) &'a mut String);

/// All flows, with what was counted.
pub(super) type Sums = [(Arc<FlowKey>, Sum)];

/// Writes the labels of each flow once, for all that is said of it; they stand without braces.
pub(super) fn labelled(sums: &Sums, labels: impl Fn(&FlowKey) -> String) -> Vec<(String, &Sum)> {
    sums.iter().map(|(key, sum)| (labels(key), sum)).collect()
}

/// Writes the status of gRPC behind other labels; nothing where there is none.
pub(super) fn grpc_label(name: &str, status: Option<u8>) -> String {
    match status {
        None => String::new(),
        Some(GRPC_OTHER) => format!(",{name}=\"other\""),
        Some(status) => format!(",{name}=\"{status}\""),
    }
}

impl Page<'_> {
    /// Begins a metric.
    pub(super) fn head(&mut self, name: &str, (kind, help): (&str, &str)) {
        text::head(self.0, name, kind, help);
    }

    /// Writes a metric without labels.
    pub(super) fn single(&mut self, name: &str, about: (&str, &str), value: u64) {
        self.head(name, about);
        text::line(self.0, name, "", value);
    }

    /// Writes one value; `labels` stand without braces.
    pub(super) fn line(&mut self, name: &str, labels: &str, value: impl Display) {
        text::line(self.0, name, &format_args!("{{{labels}}}"), value);
    }

    /// Writes a count of each flow that has one.
    pub(super) fn counter(
        &mut self,
        (name, help): (&str, &str),
        sums: &[(String, &Sum)],
        pick: impl Fn(&Sum) -> u64,
    ) {
        self.head(name, ("counter", help));
        for (labels, sum) in sums {
            if pick(sum) > 0 {
                self.line(name, labels, pick(sum));
            }
        }
    }

    /// Writes a histogram of each flow that has one, its values divided by `per`.
    pub(super) fn histogram(
        &mut self,
        (name, help): (&str, &str),
        sums: &[(String, &Sum)],
        (pick, per): (impl Fn(&Sum) -> &Buckets, f64),
    ) {
        self.head(name, ("histogram", help));
        for (labels, sum) in sums {
            let buckets = pick(sum);
            if buckets.total() == 0 {
                continue;
            }
            let mut below = 0;
            for (count, bound) in buckets.counts.iter().zip(BOUNDS) {
                below += count;
                let bound = bound / per;
                let _ = writeln!(self.0, "{name}_bucket{{{labels},le=\"{bound}\"}} {below}");
            }
            let total = buckets.total();
            let _ = writeln!(self.0, "{name}_bucket{{{labels},le=\"+Inf\"}} {total}");
            let _ = writeln!(self.0, "{name}_sum{{{labels}}} {}", buckets.sum() / per);
            let _ = writeln!(self.0, "{name}_count{{{labels}}} {total}");
        }
    }
}
