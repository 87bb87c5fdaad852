//! Compile-time references (LANGUAGE §10): addresses, `count`, `sizeof`, `max`, `min`, and expressions of them.
//!
//! Everything is answered from the finished layout. What a function can only know of its own parameters and locals is left
//! to the analysis of the back half.

use super::arguments::{Expression, Name, Number, Operand, Operator, Reference, Value};
use super::layout::{Layout, ModuleLayout, Slot};
use super::program::{AddressRange, BaseType, DeclaredType, Literal, LiteralKind, PointeeQuery};

/// Known element counts of what pointers point at: by module, by slot (LANGUAGE §10, `count(*p)`).
pub type PointeeCounts = Vec<Vec<Option<u32>>>;

/// A value that a compile-time form stands for.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub number: Number,
    /// Set for addresses.
    pub range: Option<Range>,
}

/// The part of memory an address may be used in, before names are copied into an [`AddressRange`].
#[derive(Clone, Copy, Debug)]
pub struct Range {
    pub byte_address: u32,
    pub safe_bytes: u32,
    /// Module and slot it lies in.
    pub module: usize,
    pub slot: Option<usize>,
    /// It comes from the start address of an item, not from its end.
    pub is_from_start: bool,
}

/// What a name stands for.
#[derive(Clone, Debug)]
pub enum Lookup {
    Known(Resolved),
    /// `count(*p)` of a memory pointer of which the count is not known.
    CountUnknown,
    /// A pointee query of something that is no memory item here.
    NotMemory,
    Unknown,
}

/// Answers the compile-time forms of one block.
pub struct Resolver<'l, 'p, 'a> {
    pub layout: &'l Layout<'p, 'a>,
    /// The module the forms stand in; `None` in functions.
    pub module: Option<usize>,
    /// Pointee counts of that module, as far as they are known yet.
    pub pointee_counts: &'l [Option<u32>],
    /// Types of parameters and locals of the block, by name.
    pub local_type: &'l dyn Fn(&str) -> Option<DeclaredType>,
}

impl<'l, 'p, 'a> Resolver<'l, 'p, 'a> {
    /// What a name stands for, when it is a compile-time form.
    pub fn name(&self, name: &Name<'_>) -> Lookup {
        match name {
            Name::Reference(reference) => self.reference(reference).map_or(Lookup::Unknown, Lookup::Known),
            Name::PointeeQuery { query, name } => self.pointee_query(*query, name),
            Name::Plain(_) | Name::ConstantStyle(_) | Name::Dereference { .. } => Lookup::Unknown,
        }
    }

    /// The value of an expression, if all of it is known.
    pub fn expression(&self, expression: &Expression<'_>) -> Option<Resolved> {
        let operator = expression.operator;
        let (left, right) = (self.operand(&expression.left)?, self.operand(&expression.right)?);
        if self.layout.is_relative && depends_on_layout(&left, operator, &right) {
            return None;
        }
        let number = operator.apply(left.number, right.number)?;
        let range = match operator {
            Operator::Add => match (left.range, right.range) {
                (Some(range), _) => shifted(range, right.number),
                (None, Some(range)) => shifted(range, left.number),
                (None, None) => None,
            },
            Operator::Subtract => left.range.and_then(|range| shifted(range, Number { value: -right.number.value, ..right.number })),
            _ => None,
        };
        Some(Resolved { number, range })
    }

    /// The value of an argument, if it is a number or a compile-time form that is known.
    pub fn value(&self, value: &Value<'_>) -> Option<Resolved> {
        match value {
            Value::Number(number) => Some(Resolved { number: *number, range: None }),
            Value::Name(name) => match self.name(name) {
                Lookup::Known(resolved) => Some(resolved),
                _ => None,
            },
            Value::Expression(expression) => self.expression(expression),
            Value::Text(_) => None,
        }
    }

    /// A value as the back half takes it.
    pub fn literal(&self, resolved: &Resolved) -> Literal {
        let range = resolved.range.map(|range| self.address_range(range));
        Literal { value: resolved.number.value, kind: resolved.number.kind, range }
    }

    /// A range as the back half takes it.
    pub fn address_range(&self, range: Range) -> AddressRange {
        let module = &self.layout.modules[range.module];
        let slot = range.slot.map(|slot| &module.slots[slot]);
        AddressRange {
            byte_address: range.byte_address,
            safe_bytes: range.safe_bytes,
            memory: module.memory,
            module: range.module,
            item: range.slot,
            item_type: slot.map(|slot| slot.declared),
        }
    }

    fn operand(&self, operand: &Operand<'_>) -> Option<Resolved> {
        match operand {
            Operand::Number(number) => Some(Resolved { number: *number, range: None }),
            Operand::Name(name) => match self.name(name) {
                Lookup::Known(resolved) => Some(resolved),
                Lookup::NotMemory => self.local_pointee(name),
                Lookup::CountUnknown | Lookup::Unknown => None,
            },
        }
    }

    /// Size and limits of what a parameter or local points at follow from its declared type alone.
    fn local_pointee(&self, name: &Name<'_>) -> Option<Resolved> {
        let Name::PointeeQuery { query, name } = name else { return None };
        let declared = (self.local_type)(name).filter(|declared| declared.pointer_depth > 0)?;
        pointee_fact(*query, declared).map(|number| Resolved { number, range: None })
    }

    fn reference(&self, reference: &Reference<'_>) -> Option<Resolved> {
        match *reference {
            Reference::ModuleStart { module } => self.module_start(self.find(module)?),
            Reference::ModuleEnd { module } => self.module_end(self.find(module)?),
            Reference::Slot { module, index } => {
                let module = self.find(module)?;
                let slot = index.parse().ok().filter(|&slot| slot < self.layout.modules[module].slots.len())?;
                Some(self.item_start(module, slot))
            }
            Reference::ItemStart { module: None, item: "this" } => self.module_start(self.module?),
            Reference::ItemEnd { module: None, item: "this" } => self.module_end(self.module?),
            Reference::ItemStart { module, item } => self.item(module, item).map(|(module, slot)| self.item_start(module, slot)),
            Reference::ItemEnd { module, item } => self.item(module, item).map(|(module, slot)| self.item_end(module, slot)),
            Reference::Query { query, module, item } => {
                let (module, slot) = self.item(module, item)?;
                Some(Resolved { number: item_fact(query, &self.layout.modules[module].slots[slot]), range: None })
            }
        }
    }

    fn find(&self, module: &str) -> Option<usize> {
        if module == "this" { self.module } else { self.layout.by_id.get(module).copied() }
    }

    fn item(&self, module: Option<&str>, item: &str) -> Option<(usize, usize)> {
        let module = match module {
            Some(module) => self.find(module)?,
            None => self.module?,
        };
        Some((module, self.layout.modules[module].slot(item)?.0))
    }

    fn module_start(&self, index: usize) -> Option<Resolved> {
        let module = &self.layout.modules[index];
        Some(address(Range::new(module.byte_address, 4 * module.words, index, None, true)))
    }

    fn module_end(&self, index: usize) -> Option<Resolved> {
        let module = &self.layout.modules[index];
        Some(address(Range::new(module.end_byte_address, last_word_bytes(module.words), index, None, false)))
    }

    fn item_start(&self, module: usize, slot: usize) -> Resolved {
        let item = &self.layout.modules[module].slots[slot];
        address(Range::new(item.byte_address, 4 * item.words, module, Some(slot), true))
    }

    fn item_end(&self, module: usize, slot: usize) -> Resolved {
        let item = &self.layout.modules[module].slots[slot];
        address(Range::new(item.end_byte_address, last_word_bytes(item.words), module, Some(slot), false))
    }

    fn pointee_query(&self, query: PointeeQuery, name: &str) -> Lookup {
        let Some((index, slot)) = self.module.and_then(|module| self.layout.modules[module].slot(name)) else {
            // `sizeof(**p)` reads as a query of something named `*p`, which nothing can be.
            return if name.starts_with('*') { Lookup::Unknown } else { Lookup::NotMemory };
        };
        let known = |number| Lookup::Known(Resolved { number, range: None });
        match (query, slot.declared.pointer_depth) {
            (PointeeQuery::Count, 0) => Lookup::Unknown,
            (PointeeQuery::Count, _) => match self.pointee_counts.get(index).copied().flatten() {
                Some(count) => known(Number { value: f64::from(count), kind: LiteralKind::Int }),
                None => Lookup::CountUnknown,
            },
            (PointeeQuery::Sizeof, 0) => known(Number { value: 0.0, kind: LiteralKind::Int }),
            (PointeeQuery::Max | PointeeQuery::Min, 0) => known(Number { value: 0.0, kind: LiteralKind::Float }),
            _ => pointee_fact(query, slot.declared).map_or(Lookup::CountUnknown, known),
        }
    }
}

impl Range {
    fn new(byte_address: u32, safe_bytes: u32, module: usize, slot: Option<usize>, is_from_start: bool) -> Self {
        Self { byte_address, safe_bytes, module, slot, is_from_start }
    }
}

fn address(range: Range) -> Resolved {
    Resolved { number: Number { value: f64::from(range.byte_address), kind: LiteralKind::Int }, range: Some(range) }
}

fn last_word_bytes(words: u32) -> u32 {
    if words > 0 { 4 } else { 0 }
}

/// Whether the result says more than where something is. Texts must not mean something else, or be wrong, because of what ran
/// before them: such a program is not laid out relative to another (see `back`).
fn depends_on_layout(left: &Resolved, operator: Operator, right: &Resolved) -> bool {
    match (operator, left.range, right.range) {
        (_, None, None) | (Operator::Add, Some(_), None) | (Operator::Add, None, Some(_)) | (Operator::Subtract, Some(_), None) => false,
        (Operator::Subtract, Some(left), Some(right)) => left.module != right.module,
        _ => true,
    }
}

/// The rest of a range behind an offset; none where the offset leaves it.
fn shifted(range: Range, offset: Number) -> Option<Range> {
    let is_inside = offset.kind == LiteralKind::Int && (0.0..=f64::from(range.safe_bytes)).contains(&offset.value);
    let bytes = if is_inside { offset.value as u32 } else { return None };
    Some(Range { byte_address: range.byte_address + bytes, safe_bytes: range.safe_bytes - bytes, ..range })
}

/// How many elements remain behind an address that starts inside an item; unknown for one, as that may be a scalar.
pub fn elements_behind(range: Range, modules: &[ModuleLayout<'_, '_>]) -> Option<u32> {
    let slot = &modules[range.module].slots[range.slot.filter(|_| range.is_from_start)?];
    let offset = f64::from(range.byte_address - slot.byte_address);
    let remaining = ((slot.element_bytes() - offset) / f64::from(slot.declared.element_bytes())).floor().max(0.0);
    Some(remaining as u32).filter(|&remaining| remaining != 1)
}

fn item_fact(query: PointeeQuery, slot: &Slot<'_, '_>) -> Number {
    match query {
        PointeeQuery::Count => Number { value: slot.count, kind: LiteralKind::Int },
        PointeeQuery::Sizeof => Number { value: f64::from(slot.declared.element_bytes()), kind: LiteralKind::Int },
        PointeeQuery::Max | PointeeQuery::Min => limit(query, slot.declared),
    }
}

/// `sizeof(*p)`, `max(*p)`, `min(*p)` for a pointer of this type; `None` for `count(*p)`.
fn pointee_fact(query: PointeeQuery, pointer: DeclaredType) -> Option<Number> {
    let pointee = DeclaredType { pointer_depth: pointer.pointer_depth.saturating_sub(1), is_array: false, ..pointer };
    match query {
        PointeeQuery::Count => None,
        PointeeQuery::Sizeof => Some(Number { value: f64::from(pointee.element_bytes()), kind: LiteralKind::Int }),
        PointeeQuery::Max | PointeeQuery::Min => Some(limit(query, pointee)),
    }
}

/// Largest or smallest value of an element (LANGUAGE §6).
fn limit(query: PointeeQuery, declared: DeclaredType) -> Number {
    let base = if declared.pointer_depth > 0 { BaseType::Int } else { declared.base };
    let (min, max) = match base {
        BaseType::Int | BaseType::Int32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
        BaseType::Int8 => (f64::from(i8::MIN), f64::from(i8::MAX)),
        BaseType::Int8u => (0.0, f64::from(u8::MAX)),
        BaseType::Int16 => (f64::from(i16::MIN), f64::from(i16::MAX)),
        BaseType::Int16u => (0.0, f64::from(u16::MAX)),
        BaseType::Float => (f64::from(f32::MIN), f64::from(f32::MAX)),
        BaseType::Float64 => (f64::MIN, f64::MAX),
    };
    let kind = if declared.is_integer() { LiteralKind::Int } else { LiteralKind::Float };
    Number { value: if query == PointeeQuery::Max { max } else { min }, kind }
}
