//! Our own exports as Parquet: row group by row group, a few thousand rows of each column at a time.

use std::fs::File;

use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};

use super::cells::{shown, utf8};
use super::layout::OWN_CANDLE;
use super::own::{OwnCandle, Owner};
use super::read::{Collector, Place};
use super::rows::{Item, Row, Subjects};
use crate::domain::{Bar, Column, Figures, Reject, Stamp};

/// Rows of a column held at a time.
const BATCH: usize = 2_048;
/// The largest column of a row group, unpacked: what is larger did not come from us.
const MAX_COLUMN_BYTES: i64 = 1 << 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Candles,
    Prices,
}

impl Kind {
    fn columns(self) -> Vec<(&'static str, Form)> {
        let own = [("source", Form::Text), ("source_id", Form::Text), ("symbol", Form::Text)];
        let of_candle = |name: &'static str| match name {
            "vs_currency" | "timeframe" | "origin" => (name, Form::Text),
            "open_time" => (name, Form::Time),
            "samples" => (name, Form::Whole),
            "final" => (name, Form::Truth),
            _ => (name, Form::Double),
        };
        let of_price = |column: Column| match column {
            Column::MarketCapRank => (column.name(), Form::Whole),
            _ => (column.name(), Form::Double),
        };
        let mut columns = own.to_vec();
        match self {
            Kind::Candles => columns.extend(OWN_CANDLE.map(of_candle)),
            Kind::Prices => {
                columns.extend([("vs_currency", Form::Text), ("observed_at", Form::Time)]);
                columns.extend(Column::ALL.map(of_price));
            }
        }
        columns
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Double,
    Whole,
    Truth,
    Time,
}

impl Form {
    fn fits(self, physical: Type) -> bool {
        match self {
            Form::Text => physical == Type::BYTE_ARRAY,
            Form::Double => physical == Type::DOUBLE,
            Form::Whole => matches!(physical, Type::INT64 | Type::INT32),
            Form::Truth => physical == Type::BOOLEAN,
            Form::Time => physical == Type::INT64,
        }
    }
}

/// What a file holds, by the names and types of its columns.
pub fn kind(file: File) -> Result<Kind, String> {
    let reader = SerializedFileReader::new(file).map_err(|err| err.to_string())?;
    let schema = reader.metadata().file_metadata().schema_descr();
    let mut why = "it is Parquet, and no export of prices or candles of coinetl".to_owned();
    for kind in [Kind::Candles, Kind::Prices] {
        match places(schema, kind) {
            Ok(_) => return Ok(kind),
            // The kind that it names, with columns of another type.
            Err(wrong) if !wrong.is_missing => why = wrong.why,
            Err(_) => {}
        }
    }
    Err(why)
}

struct Wrong {
    why: String,
    is_missing: bool,
}

/// Where the columns of a kind stand, and in how many parts of a millisecond a time is told.
fn places(schema: &SchemaDescriptor, kind: Kind) -> Result<Vec<(usize, i64)>, Wrong> {
    let place = |(name, form): (&'static str, Form)| {
        let at = schema.columns().iter().position(|column| column.path().parts() == [name]);
        let Some(at) = at else { return Err(Wrong { why: format!("it has no column {name}"), is_missing: true }) };
        let column = schema.column(at);
        let fits = form.fits(column.physical_type()) && column.max_rep_level() == 0 && column.max_def_level() <= 1;
        let parts = if form == Form::Time { parts_of_millis(&column) } else { Some(1) };
        match parts.filter(|_| fits) {
            Some(parts) => Ok((at, parts)),
            None => Err(Wrong { why: format!("its column {name} is of another type than ours"), is_missing: false }),
        }
    };
    kind.columns().into_iter().map(place).collect()
}

fn parts_of_millis(column: &ColumnDescriptor) -> Option<i64> {
    match (column.logical_type_ref(), column.converted_type()) {
        (Some(LogicalType::Timestamp(timestamp)), _) => Some(match timestamp.unit {
            TimeUnit::MILLIS => 1,
            TimeUnit::MICROS => 1_000,
            TimeUnit::NANOS => 1_000_000,
        }),
        (None, ConvertedType::TIMESTAMP_MILLIS) => Some(1),
        (None, ConvertedType::TIMESTAMP_MICROS) => Some(1_000),
        _ => None,
    }
}

/// Reads all rows; false when nobody wanted more.
pub fn read(file: File, kind: Kind, collector: &mut Collector<'_>) -> Result<bool, String> {
    let reader = SerializedFileReader::new(file).map_err(|err| err.to_string())?;
    let places = places(reader.metadata().file_metadata().schema_descr(), kind).map_err(|wrong| wrong.why)?;
    let mut subjects = Subjects::default();
    let mut row_number = 0;
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(|err| collector.fail(err))?;
        if group.metadata().columns().iter().any(|column| column.uncompressed_size() > MAX_COLUMN_BYTES) {
            return Err(collector.fail(format!("a column of a row group is larger than {MAX_COLUMN_BYTES} bytes")));
        }
        let mut fields = Vec::with_capacity(places.len());
        for (at, parts) in &places {
            fields.push(Field::open(group.as_ref(), *at, *parts).map_err(|err| collector.fail(err))?);
        }
        let mut left = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        while left > 0 {
            let rows = left.min(BATCH);
            for field in &mut fields {
                field.load(rows).map_err(|err| collector.fail(err))?;
            }
            for row in 0..rows {
                row_number += 1;
                let made = match kind {
                    Kind::Candles => candle(&fields, row, &mut subjects),
                    Kind::Prices => price(&fields, row, &mut subjects),
                };
                let rejected = match made {
                    Ok(row) => {
                        collector.row(row);
                        None
                    }
                    Err(why) => Some(reject(&fields, row, row_number, &why)),
                };
                if !collector.went(Place { position: row_number, line: row_number }, rejected) {
                    return Ok(false);
                }
            }
            left -= rows;
        }
    }
    Ok(collector.end())
}

/// A few thousand values of a column; `None` where there is none.
struct Field {
    reader: ColumnReader,
    is_optional: bool,
    /// A time is told in so many parts of a millisecond.
    parts: i64,
    levels: Vec<i16>,
    values: Values,
}

enum Values {
    Texts(Vec<Option<ByteArray>>),
    Doubles(Vec<Option<f64>>),
    Wholes(Vec<Option<i64>>),
    Truths(Vec<Option<bool>>),
}

impl Field {
    fn open(group: &dyn RowGroupReader, at: usize, parts: i64) -> Result<Field, String> {
        let is_optional = group.metadata().column(at).column_descr().max_def_level() > 0;
        let reader = group.get_column_reader(at).map_err(|err| err.to_string())?;
        Ok(Field { reader, is_optional, parts, levels: Vec::new(), values: Values::Wholes(Vec::new()) })
    }

    fn load(&mut self, rows: usize) -> Result<(), String> {
        let (optional, levels) = (self.is_optional, &mut self.levels);
        self.values = match &mut self.reader {
            ColumnReader::ByteArrayColumnReader(reader) => Values::Texts(column(reader, rows, optional, levels)?),
            ColumnReader::DoubleColumnReader(reader) => Values::Doubles(column(reader, rows, optional, levels)?),
            ColumnReader::Int64ColumnReader(reader) => Values::Wholes(column(reader, rows, optional, levels)?),
            ColumnReader::Int32ColumnReader(reader) => {
                let values = column(reader, rows, optional, levels)?;
                Values::Wholes(values.into_iter().map(|value| value.map(i64::from)).collect())
            }
            ColumnReader::BoolColumnReader(reader) => Values::Truths(column(reader, rows, optional, levels)?),
            _ => return Err("a column is of another type than its name says".to_owned()),
        };
        Ok(())
    }

    fn text(&self, row: usize) -> Result<&str, String> {
        match &self.values {
            Values::Texts(values) => values[row].as_ref().map_or(Ok(""), |text| utf8(text.data())),
            _ => Ok(""),
        }
    }

    fn double(&self, row: usize) -> Option<f64> {
        match &self.values {
            Values::Doubles(values) => values[row],
            _ => None,
        }
    }

    fn whole(&self, row: usize) -> Option<i64> {
        match &self.values {
            Values::Wholes(values) => values[row],
            _ => None,
        }
    }

    fn truth(&self, row: usize) -> Option<bool> {
        match &self.values {
            Values::Truths(values) => values[row],
            _ => None,
        }
    }

    fn time(&self, row: usize) -> Result<Stamp, String> {
        let told = self.whole(row).ok_or("the time is missing")?;
        Stamp::from_millis(told.div_euclid(self.parts)).map_err(|err| err.to_string())
    }

    fn shown(&self, row: usize) -> String {
        match &self.values {
            Values::Texts(values) => values[row].as_ref().map_or(String::new(), |text| shown(text.data())),
            Values::Doubles(values) => values[row].map_or(String::new(), |value| value.to_string()),
            Values::Wholes(values) => values[row].map_or(String::new(), |value| value.to_string()),
            Values::Truths(values) => values[row].map_or(String::new(), |value| value.to_string()),
        }
    }
}

/// The next rows of a column, each with its value or none.
fn column<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    rows: usize,
    is_optional: bool,
    levels: &mut Vec<i16>,
) -> Result<Vec<Option<T::T>>, String> {
    levels.clear();
    let mut values = Vec::with_capacity(rows);
    let (mut read, mut out) = (0, Vec::with_capacity(rows));
    while read < rows {
        let told = is_optional.then_some(&mut *levels);
        let (records, _, _) =
            reader.read_records(rows - read, told, None, &mut values).map_err(|err| err.to_string())?;
        if records == 0 {
            return Err("a column ends before the others".to_owned());
        }
        read += records;
    }
    let mut values = values.into_iter();
    match is_optional {
        true => out.extend(levels.iter().map(|level| if *level > 0 { values.next() } else { None })),
        false => out.extend(values.map(Some)),
    }
    match out.len() == rows {
        true => Ok(out),
        false => Err("a column has another number of rows than it says".to_owned()),
    }
}

fn candle(fields: &[Field], row: usize, subjects: &mut Subjects) -> Result<Row, String> {
    let subject = owner(fields, row)?.subject(subjects)?;
    let needed = |at: usize, name: &str| fields[at].double(row).ok_or_else(|| format!("{name} is missing"));
    let item = OwnCandle {
        timeframe: fields[4].text(row)?,
        open_time: fields[5].time(row)?,
        bar: Bar {
            open: needed(6, "open")?,
            high: needed(7, "high")?,
            low: needed(8, "low")?,
            close: needed(9, "close")?,
            volume: fields[10].double(row),
            base_volume: fields[11].double(row),
            market_cap: fields[12].double(row),
            samples: fields[13].whole(row),
        },
        origin: fields[14].text(row)?,
        is_final: fields[15].truth(row).ok_or("final is missing")?,
    };
    Ok(Row::Item(subject, item.item()?))
}

fn price(fields: &[Field], row: usize, subjects: &mut Subjects) -> Result<Row, String> {
    let subject = owner(fields, row)?.subject(subjects)?;
    let observed_at = fields[4].time(row)?;
    let mut figures = Figures::default();
    for (field, column) in fields[5..].iter().zip(Column::ALL) {
        let value = field.double(row).or_else(|| field.whole(row).map(|whole| whole as f64));
        figures.set(column, value).map_err(|err| err.to_string())?;
    }
    Ok(Row::Item(subject, Item::Price(observed_at, figures)))
}

fn owner(fields: &[Field], row: usize) -> Result<Owner<'_>, String> {
    Ok(Owner {
        source: fields[0].text(row)?,
        source_id: fields[1].text(row)?,
        symbol: fields[2].text(row)?,
        vs_currency: fields[3].text(row)?,
    })
}

fn reject(fields: &[Field], row: usize, number: u64, why: &str) -> Reject {
    let payload = fields.iter().map(|field| field.shown(row)).collect::<Vec<_>>().join(",");
    Reject { source_id: None, payload, reason: format!("row {number}: {why}") }
}
