//! Rows of any table, column by column: the shape in which they are read in bulk and written to files.

use std::collections::HashMap;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// A whole number.
    Int,
    Double,
    Bool,
    /// Milliseconds since 1970, UTC.
    Millis,
    /// Microseconds since 1970, UTC.
    Micros,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::Int => "integer",
            Kind::Double => "double",
            Kind::Bool => "boolean",
            Kind::Millis => "timestamp_ms",
            Kind::Micros => "timestamp_us",
        }
    }
}

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub nullable: bool,
}

impl Field {
    pub const fn new(name: &'static str, kind: Kind) -> Field {
        Field { name, kind, nullable: false }
    }

    pub const fn nullable(name: &'static str, kind: Kind) -> Field {
        Field { name, kind, nullable: true }
    }
}

/// One value. Times are whole numbers in the unit of their column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell<'a> {
    Null,
    Text(&'a str),
    Int(i64),
    Double(f64),
    Bool(bool),
}

/// Texts, most of which are those of the row before: each different one is kept once.
#[derive(Debug, Clone, Default)]
pub struct Texts {
    ids: Vec<u32>,
    words: Vec<Box<str>>,
    known: HashMap<Box<str>, u32>,
}

impl Texts {
    fn push(&mut self, text: &str) {
        if let Some(last) = self.ids.last()
            && &*self.words[*last as usize] == text
        {
            self.ids.push(*last);
            return;
        }
        let id = match self.known.get(text) {
            Some(id) => *id,
            None => {
                let id = self.words.len() as u32;
                self.words.push(text.into());
                self.known.insert(text.into(), id);
                id
            }
        };
        self.ids.push(id);
    }

    /// The different ones, in the order of their first row.
    pub fn words(&self) -> &[Box<str>] {
        &self.words
    }

    /// For each row the place of its text among the words.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    fn get(&self, row: usize) -> &str {
        &self.words[self.ids[row] as usize]
    }
}

#[derive(Debug, Clone)]
pub enum Values {
    Text(Texts),
    /// Times too.
    Int(Vec<i64>),
    Double(Vec<f64>),
    Bool(Vec<bool>),
}

/// The values of a column; where one is absent, its place holds anything.
#[derive(Debug, Clone)]
pub struct Column {
    pub values: Values,
    /// 1 where the value is there, 0 where it is NULL; `None` for a column that has no NULL.
    pub present: Option<Vec<i16>>,
}

/// Some rows of a table, and for each the run that last changed it (0 where the table knows none).
#[derive(Debug, Clone)]
pub struct Rows {
    pub columns: Vec<Column>,
    pub runs: Vec<i64>,
}

impl Rows {
    pub fn new(fields: &[Field]) -> Rows {
        let column = |field: &Field| Column {
            values: match field.kind {
                Kind::Text => Values::Text(Texts::default()),
                Kind::Int | Kind::Millis | Kind::Micros => Values::Int(Vec::new()),
                Kind::Double => Values::Double(Vec::new()),
                Kind::Bool => Values::Bool(Vec::new()),
            },
            present: field.nullable.then(Vec::new),
        };
        Rows { columns: fields.iter().map(column).collect(), runs: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.runs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Adds a value to a column. Each column gets one, then the row is ended. False when the value is
    /// none that the column can hold.
    #[must_use]
    pub fn push(&mut self, column: usize, cell: Cell<'_>) -> bool {
        let Column { values, present } = &mut self.columns[column];
        match present {
            Some(present) => present.push(i16::from(cell != Cell::Null)),
            None if cell == Cell::Null => return false,
            None => {}
        }
        match (values, cell) {
            (Values::Text(texts), Cell::Text(text)) => texts.push(text),
            (Values::Text(texts), Cell::Null) => texts.push(""),
            (Values::Int(numbers), Cell::Int(number)) => numbers.push(number),
            (Values::Int(numbers), Cell::Null) => numbers.push(0),
            (Values::Double(numbers), Cell::Double(number)) => numbers.push(number),
            (Values::Double(numbers), Cell::Null) => numbers.push(0.0),
            (Values::Bool(truths), Cell::Bool(truth)) => truths.push(truth),
            (Values::Bool(truths), Cell::Null) => truths.push(false),
            _ => return false,
        }
        true
    }

    pub fn end_row(&mut self, run_id: i64) {
        self.runs.push(run_id);
    }

    pub fn cell(&self, column: usize, row: usize) -> Cell<'_> {
        let Column { values, present } = &self.columns[column];
        if present.as_ref().is_some_and(|present| present[row] == 0) {
            return Cell::Null;
        }
        match values {
            Values::Text(texts) => Cell::Text(texts.get(row)),
            Values::Int(numbers) => Cell::Int(numbers[row]),
            Values::Double(numbers) => Cell::Double(numbers[row]),
            Values::Bool(truths) => Cell::Bool(truths[row]),
        }
    }

    /// Adds a row of other rows with the same columns.
    pub fn append(&mut self, other: &Rows, row: usize) {
        for column in 0..self.columns.len() {
            let fits = self.push(column, other.cell(column, row));
            debug_assert!(fits, "the columns are the same");
        }
        self.end_row(other.runs[row]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let fields = [Field::new("a", Kind::Text), Field::nullable("b", Kind::Double), Field::new("c", Kind::Millis)];
        let mut rows = Rows::new(&fields);
        for (text, number) in [("x", Some(-0.0)), ("", None), ("x", Some(5e-324))] {
            assert!(rows.push(0, Cell::Text(text)));
            assert!(rows.push(1, number.map_or(Cell::Null, Cell::Double)));
            assert!(rows.push(2, Cell::Int(7)));
            rows.end_row(3);
        }
        assert_eq!((rows.cell(0, 1), rows.cell(1, 1), rows.cell(0, 2)), (Cell::Text(""), Cell::Null, Cell::Text("x")));
        assert!(matches!(rows.cell(1, 0), Cell::Double(zero) if zero.is_sign_negative()));
        let mut other = Rows::new(&fields);
        other.append(&rows, 2);
        assert_eq!((other.cell(1, 0), other.len(), other.runs[0]), (Cell::Double(5e-324), 1, 3));
        assert!(!rows.push(2, Cell::Null) && !rows.push(0, Cell::Int(1)));
    }
}
