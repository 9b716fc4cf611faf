//! What is left out of the JSON of an entry: values that say nothing.

/// Whether a value is the one that stands for a field left out.
pub(crate) fn is_blank<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
