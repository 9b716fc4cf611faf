//! HCL as plain data: attributes and blocks. Nothing is evaluated.
//!
//! A block is an object under its name, labels are keys on the way to it, and blocks that repeat
//! are a list. The parser bounds nesting by itself. What Consul reads in one line is read, too.

use hcl::eval::{Context, Evaluate};
use hcl::expr::{Expression, ObjectKey, Operation, TemplateExpr, UnaryOperator};
use hcl::structure::{Block, Body, Structure};
use hcl::template::{Element, Template};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

use super::Fault;
use super::spread::spread;

/// Parses HCL.
///
/// # Errors
/// One fault: a syntax error with line and column, or the field whose value is not plain data.
pub(super) fn parse(text: &str) -> Result<Value, Fault> {
    // Of the two faults, the one whose line is the reader's.
    let parsed = hcl::parse(text).or_else(|fault| hcl::parse(&spread(text)).map_err(|_| fault));
    let body = parsed.map_err(|error| match error {
        hcl::Error::Parse(error) => {
            let (line, column) = (error.location().line(), error.location().column());
            Fault::new("", format!("line {line} column {column}: {}", error.message()))
        }
        other => Fault::new("", other.to_string()),
    })?;
    object(body, "").map(Value::Object)
}

fn object(body: Body, path: &str) -> Result<Map<String, Value>, Fault> {
    let mut object = Map::new();
    let mut blocks = Vec::new();
    for structure in body {
        match structure {
            Structure::Attribute(attribute) => {
                let key = attribute.key.to_string();
                let path = below(path, &key);
                let value = value(attribute.expr, &path)?;
                if object.insert(key, value).is_some() {
                    return Err(Fault::new(path, "is given twice"));
                }
            }
            Structure::Block(block) => blocks.push(block),
        }
    }
    let mut made = Map::new();
    for block in blocks {
        let name = block.identifier.to_string();
        let path = below(path, &name);
        if object.contains_key(&name) {
            return Err(Fault::new(path, "is given both as a value and as a block"));
        }
        add_block(&mut made, name, block, path)?;
    }
    object.extend(made);
    Ok(object)
}

/// Puts a block in its place: under its name and then under each of its labels.
fn add_block(
    mut into: &mut Map<String, Value>,
    name: String,
    block: Block,
    mut path: String,
) -> Result<(), Fault> {
    let mut key = name;
    for label in block.labels {
        let inner = into.entry(key).or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(inner) = inner else {
            return Err(Fault::new(path, "is given both with a label and without one"));
        };
        into = inner;
        key = label.into_inner();
        path = below(&path, &key);
    }
    let block = Value::Object(object(block.body, &path)?);
    match into.entry(key) {
        Entry::Vacant(place) => {
            place.insert(block);
        }
        Entry::Occupied(mut place) => match place.get_mut() {
            Value::Array(list) => list.push(block),
            first => *first = Value::Array(vec![first.take(), block]),
        },
    }
    Ok(())
}

fn value(expression: Expression, path: &str) -> Result<Value, Fault> {
    let refused = |what: &str| {
        Err(Fault::new(path, format!("{what}; nothing is evaluated here, write the value itself")))
    };
    match expression {
        Expression::Null => Ok(Value::Null),
        Expression::Bool(value) => Ok(value.into()),
        Expression::Number(value) => number(&value, path),
        Expression::String(text) => Ok(text.into()),
        Expression::Array(items) => {
            let items = items.into_iter().enumerate();
            items.map(|(at, item)| value(item, &format!("{path}[{at}]"))).collect()
        }
        Expression::Object(entries) => {
            let mut object = Map::new();
            for (key, item) in entries {
                let key = match key {
                    ObjectKey::Identifier(name) => name.to_string(),
                    ObjectKey::Expression(Expression::String(text)) => text,
                    _ => return refused("has a key that is not a name or a text in quotes"),
                };
                let path = below(path, &key);
                let item = value(item, &path)?;
                if object.insert(key, item).is_some() {
                    return Err(Fault::new(path, "is given twice"));
                }
            }
            Ok(Value::Object(object))
        }
        Expression::TemplateExpr(template) => literal(&template).map_or_else(
            || refused("has \"${…}\" or \"%{…}\" in it (write \"$${\" for the signs themselves)"),
            |text| Ok(text.into()),
        ),
        Expression::Operation(operation) => match *operation {
            Operation::Unary(unary) if unary.operator == UnaryOperator::Neg => match unary.expr {
                Expression::Number(value) => number(&-value, path),
                _ => refused("is an operation"),
            },
            _ => refused("is an operation"),
        },
        Expression::Variable(name) => {
            let name = name.as_str();
            Err(Fault::new(path, format!("{name} is a text without quotes; write \"{name}\"")))
        }
        Expression::FuncCall(call) => refused(&format!("calls the function {}", call.name)),
        _ => refused("is an expression"),
    }
}

fn number(number: &hcl::Number, path: &str) -> Result<Value, Fault> {
    let whole = number.as_u64().map(Number::from).or_else(|| number.as_i64().map(Number::from));
    whole
        .or_else(|| number.as_f64().and_then(Number::from_f64))
        .map(Value::Number)
        .ok_or_else(|| Fault::new(path, "is not a number that can be written"))
}

/// Returns the text of a template that has nothing to evaluate in it.
fn literal(template: &TemplateExpr) -> Option<String> {
    let parsed = Template::from_expr(template).ok()?;
    let plain = parsed.elements().iter().all(|element| matches!(element, Element::Literal(_)));
    if !plain {
        return None;
    }
    template.evaluate(&Context::new()).ok()?.as_str().map(str::to_owned)
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
