//! One field of a record, without making JSON of all the others.

use serde::Serialize;
use serde::ser::{Impossible, SerializeMap, SerializeStruct, SerializeStructVariant, Serializer};
use serde_json::{Error, Value};

/// Returns the field at a path through the record's JSON, `None` when there is none.
///
/// # Errors
/// When the field has no JSON form.
pub(super) fn pick<T: Serialize + ?Sized>(
    record: &T,
    path: &[String],
) -> Result<Option<Value>, Error> {
    match path.split_first() {
        Some((first, rest)) => record.serialize(Step { first, rest }),
        None => serde_json::to_value(record).map(Some),
    }
}

/// Looks for the field of a name, and for the rest of a path in it.
struct Step<'a> {
    first: &'a str,
    rest: &'a [String],
}

/// A record or map that is being looked through.
struct Search<'a> {
    step: Step<'a>,
    /// Whether the last key of a map was the one looked for.
    is_next: bool,
    found: Option<Value>,
}

impl<'a> Step<'a> {
    fn search(self) -> Search<'a> {
        Search { step: self, is_next: false, found: None }
    }
}

impl Search<'_> {
    fn take<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.found = pick(value, self.step.rest)?;
        Ok(())
    }
}

macro_rules! nothing_inside {
    ($($method:ident($($type:ty),*)),* $(,)?) => {$(
        fn $method(self, $(_: $type),*) -> Result<Option<Value>, Error> {
            Ok(None)
        }
    )*};
}

impl<'a> Serializer for Step<'a> {
    type Ok = Option<Value>;
    type Error = Error;
    type SerializeSeq = Impossible<Option<Value>, Error>;
    type SerializeTuple = Impossible<Option<Value>, Error>;
    type SerializeTupleStruct = Impossible<Option<Value>, Error>;
    type SerializeTupleVariant = Impossible<Option<Value>, Error>;
    type SerializeMap = Search<'a>;
    type SerializeStruct = Search<'a>;
    type SerializeStructVariant = Search<'a>;

    nothing_inside! {
        serialize_bool(bool), serialize_i8(i8), serialize_i16(i16), serialize_i32(i32),
        serialize_i64(i64), serialize_u8(u8), serialize_u16(u16), serialize_u32(u32),
        serialize_u64(u64), serialize_f32(f32), serialize_f64(f64), serialize_char(char),
        serialize_str(&str), serialize_bytes(&[u8]), serialize_none(), serialize_unit(),
        serialize_unit_struct(&'static str),
        serialize_unit_variant(&'static str, u32, &'static str),
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Option<Value>, Error> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<Option<Value>, Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Option<Value>, Error> {
        if variant == self.first { pick(value, self.rest) } else { Ok(None) }
    }

    // Lists have no fields. They end here by way of an error, which the caller takes for "none".
    fn serialize_seq(self, _length: Option<usize>) -> Result<Self::SerializeSeq, Error> {
        Err(no_fields())
    }

    fn serialize_tuple(self, _length: usize) -> Result<Self::SerializeTuple, Error> {
        Err(no_fields())
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        _length: usize,
    ) -> Result<Self::SerializeTupleStruct, Error> {
        Err(no_fields())
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        Err(no_fields())
    }

    fn serialize_map(self, _length: Option<usize>) -> Result<Search<'a>, Error> {
        Ok(self.search())
    }

    fn serialize_struct(self, _name: &'static str, _length: usize) -> Result<Search<'a>, Error> {
        Ok(self.search())
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Search<'a>, Error> {
        Err(no_fields())
    }
}

fn no_fields() -> Error {
    serde::ser::Error::custom("a list has no fields")
}

impl SerializeStruct for Search<'_> {
    type Ok = Option<Value>;
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        if name == self.step.first { self.take(value) } else { Ok(()) }
    }

    fn end(self) -> Result<Option<Value>, Error> {
        Ok(self.found)
    }
}

impl SerializeStructVariant for Search<'_> {
    type Ok = Option<Value>;
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        SerializeStruct::serialize_field(self, name, value)
    }

    fn end(self) -> Result<Option<Value>, Error> {
        Ok(self.found)
    }
}

impl SerializeMap for Search<'_> {
    type Ok = Option<Value>;
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.is_next = serde_json::to_value(key)?.as_str() == Some(self.step.first);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        if self.is_next { self.take(value) } else { Ok(()) }
    }

    fn end(self) -> Result<Option<Value>, Error> {
        Ok(self.found)
    }
}
