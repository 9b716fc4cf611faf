//! One value on its way into a record: the serde deserializer.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};
use serde_json::Value;

use super::broken::Broken;
use super::place::{Path, Place, StepRef, shortened};
use super::suggest::{folded, suggestion};
use super::{Faults, Options, Unknown};

/// What one pass over the value shares.
pub(super) struct Run<'a> {
    pub(super) options: &'a Options,
    pub(super) stand_ins: &'a BTreeSet<Place>,
    pub(super) faults: &'a RefCell<Faults>,
}

/// A value and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    source: Source<'a>,
    path: &'a Path<'a>,
    run: &'a Run<'a>,
}

/// A value, or what stands in for one that was no use.
#[derive(Clone, Copy)]
enum Source<'a> {
    Given(&'a Value),
    StandIn,
}

impl<'a> Node<'a> {
    pub(super) fn given(value: &'a Value, path: &'a Path<'a>, run: &'a Run<'a>) -> Self {
        Self::new(Source::Given(value), path, run)
    }

    fn new(source: Source<'a>, path: &'a Path<'a>, run: &'a Run<'a>) -> Self {
        let replaced = !run.stand_ins.is_empty() && run.stand_ins.contains(&path.place());
        Self { source: if replaced { Source::StandIn } else { source }, path, run }
    }

    /// Matches the keys of the object to the fields of the record.
    fn fields(&self, fields: &'static [&'static str]) -> Vec<(&'static str, Source<'a>)> {
        let mut found: BTreeMap<&'static str, (&str, Source<'a>)> = BTreeMap::new();
        if let Source::Given(Value::Object(object)) = self.source {
            let by_fold: BTreeMap<String, &'static str> =
                fields.iter().map(|field| (folded(field), *field)).collect();
            for (key, value) in object {
                match by_fold.get(&folded(key)) {
                    None => self.unknown(key, value, fields),
                    Some(field) => match found.get(field) {
                        Some((other, _)) => {
                            let reason = format!("is given twice, as {other:?} and as {key:?}");
                            let path = self.path.then(StepRef::Field(field));
                            self.run.faults.borrow_mut().add(&path.place(), reason);
                        }
                        // Null is how some clients leave a field out.
                        None if value.is_null() => {}
                        None => {
                            found.insert(field, (key, Source::Given(value)));
                        }
                    },
                }
            }
        }
        if !self.run.stand_ins.is_empty() {
            for field in fields {
                let place = self.path.then(StepRef::Field(field)).place();
                if !found.contains_key(field) && self.run.stand_ins.contains(&place) {
                    found.insert(field, (field, Source::StandIn));
                }
            }
        }
        found.into_iter().map(|(field, (_, source))| (field, source)).collect()
    }

    fn unknown(&self, key: &str, value: &Value, fields: &[&'static str]) {
        if self.run.options.unknown == Unknown::Ignore {
            return;
        }
        let key_folded = folded(key);
        let not_yet = self.run.options.not_yet.iter().chain(&TENANCY);
        let not_yet = not_yet.into_iter().any(|field| folded(field) == key_folded);
        let reason = match (not_yet, suggestion(key, fields)) {
            (true, _) if is_empty(value) => return,
            (true, _) => "is not supported yet; remove it".to_owned(),
            (false, Some(near)) => format!("is not a field here; did you mean {near}?"),
            (false, None) if fields.len() <= FIELDS_LISTED_MAX => {
                format!("is not a field here; the fields are {}", fields.join(", "))
            }
            (false, None) => "is not a field here".to_owned(),
        };
        let shown = shortened(key);
        let path = self.path.then(StepRef::Key(&shown));
        self.run.faults.borrow_mut().add(&path.place(), reason);
    }
}

/// Fields that say where a name is meant; there is one place.
const TENANCY: [&str; 2] = ["Namespace", "Partition"];

/// Fields that a message lists when none is near the one written.
const FIELDS_LISTED_MAX: usize = 8;

/// Whether a value says nothing: what a zero value looks like in an exported record.
pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.iter().all(is_empty),
        Value::Object(object) => object.values().all(is_empty),
    }
}

macro_rules! scalar {
    ($($method:ident => $visit:ident($stand_in:expr)),* $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Broken> {
            match self.source {
                Source::Given(_) => self.deserialize_any(visitor),
                Source::StandIn => visitor.$visit($stand_in).map_err(|error: Broken| {
                    error.at(self.path)
                }),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = Broken;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Broken> {
        let Source::Given(value) = self.source else {
            return visitor.visit_u64(0).map_err(|error: Broken| error.at(self.path));
        };
        match value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => visitor.visit_u64(number),
                (None, Some(number)) => visitor.visit_i64(number),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_str(text),
            Value::Array(list) => visitor.visit_seq(Items { rest: list, at: 0, node: self }),
            Value::Object(object) => {
                let entries = object.iter().map(|(key, value)| (StepRef::Key(key), value));
                let entries = entries.map(|(key, value)| (key, Source::Given(value))).collect();
                visitor.visit_map(Entries::new(entries, self))
            }
        }
        .map_err(|error: Broken| error.at(self.path))
    }

    scalar! {
        deserialize_bool => visit_bool(false),
        deserialize_i8 => visit_i8(0),
        deserialize_i16 => visit_i16(0),
        deserialize_i32 => visit_i32(0),
        deserialize_i64 => visit_i64(0),
        deserialize_u8 => visit_u8(0),
        deserialize_u16 => visit_u16(0),
        deserialize_u32 => visit_u32(0),
        deserialize_u64 => visit_u64(0),
        deserialize_f32 => visit_f32(0.0),
        deserialize_f64 => visit_f64(0.0),
        deserialize_char => visit_char('x'),
        deserialize_str => visit_str("x"),
        deserialize_string => visit_str("x"),
        deserialize_bytes => visit_bytes(b"x"),
        deserialize_byte_buf => visit_bytes(b"x"),
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Broken> {
        match self.source {
            Source::Given(Value::Null) | Source::StandIn => visitor.visit_none(),
            Source::Given(_) => visitor.visit_some(self),
        }
        .map_err(|error: Broken| error.at(self.path))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Broken> {
        match self.source {
            Source::Given(_) => self.deserialize_any(visitor),
            Source::StandIn => visitor.visit_unit(),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Broken> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Broken> {
        visitor.visit_newtype_struct(self).map_err(|error: Broken| error.at(self.path))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Broken> {
        let rest = match self.source {
            Source::Given(lone @ Value::Object(_)) if self.run.options.blocks => {
                std::slice::from_ref(lone)
            }
            Source::Given(_) => return self.deserialize_any(visitor),
            Source::StandIn => &[],
        };
        visitor
            .visit_seq(Items { rest, at: 0, node: self })
            .map_err(|error: Broken| error.at(self.path))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, Broken> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, Broken> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Broken> {
        match self.source {
            Source::Given(_) => self.deserialize_any(visitor),
            Source::StandIn => visitor
                .visit_map(Entries::new(Vec::new(), self))
                .map_err(|error: Broken| error.at(self.path)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Broken> {
        if let Source::Given(value) = self.source
            && !value.is_object()
        {
            // A derived visitor would take a list for the fields in order; no client means that.
            let error = match value {
                Value::Array(_) => Broken::invalid_type(Unexpected::Seq, &"an object"),
                _ => return self.deserialize_any(visitor),
            };
            return Err(error.at(self.path));
        }
        let fields = self.fields(fields);
        let entries = fields.into_iter().map(|(name, source)| (StepRef::Field(name), source));
        visitor
            .visit_map(Entries::new(entries.collect(), self))
            .map_err(|error: Broken| error.at(self.path))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Broken> {
        let word = match self.source {
            Source::Given(Value::String(word)) => word.as_str(),
            Source::Given(_) => return self.deserialize_any(visitor),
            Source::StandIn => variants.first().copied().unwrap_or("x"),
        };
        let known = variants.iter().find(|variant| variant.eq_ignore_ascii_case(word));
        let word = known.copied().unwrap_or(word);
        visitor.visit_enum(Word(word)).map_err(|error: Broken| error.at(self.path))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Broken> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Broken> {
        visitor.visit_unit()
    }
}

/// The elements of a list.
struct Items<'a> {
    rest: &'a [Value],
    at: usize,
    node: Node<'a>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Broken;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Broken> {
        let Some((first, rest)) = self.rest.split_first() else {
            return Ok(None);
        };
        let path = self.node.path.then(StepRef::Index(self.at));
        self.rest = rest;
        self.at += 1;
        let node = Node::given(first, &path, self.node.run);
        seed.deserialize(node).map(Some).map_err(|error| error.at(&path))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// The entries of an object, with the names that the record knows where it is a record.
struct Entries<'a> {
    rest: std::vec::IntoIter<(StepRef<'a>, Source<'a>)>,
    value: Option<(StepRef<'a>, Source<'a>)>,
    node: Node<'a>,
}

impl<'a> Entries<'a> {
    fn new(entries: Vec<(StepRef<'a>, Source<'a>)>, node: Node<'a>) -> Self {
        Self { rest: entries.into_iter(), value: None, node }
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Broken;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Broken> {
        self.value = self.rest.next();
        let Some((step, _)) = self.value else {
            return Ok(None);
        };
        let key: StrDeserializer<'_, Broken> = step.text().into_deserializer();
        let path = self.node.path.then(step);
        seed.deserialize(key).map(Some).map_err(|error| error.at(&path))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Broken> {
        let (step, source) = self.value.take().expect("serde asks for a value after its key");
        let path = self.node.path.then(step);
        let node = Node::new(source, &path, self.node.run);
        seed.deserialize(node).map_err(|error| error.at(&path))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// A word that names a variant without content.
struct Word<'a>(&'a str);

impl<'de, 'a> EnumAccess<'de> for Word<'a> {
    type Error = Broken;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Broken> {
        let word: StrDeserializer<'_, Broken> = self.0.into_deserializer();
        seed.deserialize(word).map(|variant| (variant, self))
    }
}

impl<'de> VariantAccess<'de> for Word<'_> {
    type Error = Broken;

    fn unit_variant(self) -> Result<(), Broken> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _seed: T) -> Result<T::Value, Broken> {
        Err(Broken::invalid_type(Unexpected::Str(self.0), &"an object"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, _v: V) -> Result<V::Value, Broken> {
        Err(Broken::invalid_type(Unexpected::Str(self.0), &"a list"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Broken> {
        Err(Broken::invalid_type(Unexpected::Str(self.0), &"an object"))
    }
}
