//! Text survives byte for byte, keys compare byte by byte, and what cannot survive is rejected alone.

use serde_json::{Value, json};

use crate::support::gecko::{Gecko, Record};
use crate::support::test_db::TestDb;

on_every_database!(
    odd_texts_are_stored_unchanged_and_apart,
    prices_of_ids_that_look_alike_stay_apart,
    what_no_database_can_hold_is_rejected_alone,
    labels_on_a_price_page_survive_too,
    odd_ids_can_be_asked_for
);

/// Ids, symbols and names that some database, collation, parser or shell would bend.
const ODD: &[(&str, &str, &str)] = &[
    ("btc", "btc", "Bitcoin"),
    ("BTC", "BTC", "BITCOIN"),
    ("Btc", "bTc", "bitcoin"),
    ("grok", "grok", "Grok"),
    ("grōk", "grōk", "Grōk"),
    ("gro\u{304}k", "gro\u{304}k", "Gro\u{304}k"),
    ("laika", "laika", "straße"),
    ("laïka", "laïka", "strasse"),
    ("🟥🟩", "🟥🟩", "🟥🟩"),
    ("🟥", "👩‍👩‍👧‍👦", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"),
    ("a", "", ""),
    ("a ", " ", " "),
    ("a  ", "  ", "  "),
    (" a", "a", "a"),
    ("a\t", "a\t", "a\n"),
    ("a\u{200b}", "\u{200b}", "Kangaroo the Jumping Co\u{200b}in"),
    ("a\u{a0}", "\u{a0}", "BoatKid\u{a0}"),
    ("_", "\"\u{3000}\"", "صباح الفر"),
    ("%", "%", "%_%"),
    ("-10", "-10", "-10"),
    ("1move token", "1move", "1move token"),
    ("null", "null", "null"),
    ("inf", "inf", "inf"),
    ("nan", "nan", "nan"),
    ("NULL", "NULL", "NaN"),
    ("true", "000", "0x1F"),
    ("1e5", "1984", "01111010011110000110001001110100"),
    ("c:\\users", "\\", "C:\\Users\\Desktop\\memes\\"),
    ("o'neil", "'", "O'Neil '' \" `"),
    ("\"quoted\"", "\"", "; DROP TABLE prices; --"),
    ("@at", "@", "= 1 + 1"),
    ("\u{1}\u{7f}", "\u{1f}", "\u{fffd}"),
    ("ᚠᛇᚻ", "한글", "漢字 ไทย"),
    ("İ", "ı", "ﬁ"),
];

fn list(coins: &[(&str, &str, &str)]) -> String {
    Value::from_iter(coins.iter().map(|(id, symbol, name)| json!({"id": id, "symbol": symbol, "name": name})))
        .to_string()
}

fn odd_texts_are_stored_unchanged_and_apart(db: &TestDb) {
    let gecko = Gecko::new(Vec::new());
    gecko.set_list(list(ODD));
    let first = db.ask(&["assets", "upsert"], &gecko.url()).json(0);
    assert_eq!(first["rows_written"], ODD.len());
    let mut stored: Vec<Vec<String>> = db
        .query("SELECT source_id, symbol, name FROM assets")
        .into_iter()
        .map(|row| row.into_iter().map(Option::unwrap).collect())
        .collect();
    let mut sent: Vec<Vec<String>> =
        ODD.iter().map(|(id, symbol, name)| vec![id.to_string(), symbol.to_string(), name.to_string()]).collect();
    stored.sort();
    sent.sort();
    assert_eq!(stored, sent);
    // The database itself tells them apart, not only what reads from it.
    for (id, symbol, _) in
        [("a", "btc", ""), ("a ", "BTC", ""), ("BTC", "", ""), ("grok", " ", ""), ("grōk", "grōk", "")]
    {
        assert_eq!(db.number(&format!("SELECT COUNT(*) FROM assets WHERE source_id = '{id}'")), 1, "{id:?}");
        assert_eq!(db.number(&format!("SELECT COUNT(*) FROM assets WHERE symbol = '{symbol}'")), 1, "{symbol:?}");
    }
    let again = db.ask(&["assets", "upsert"], &gecko.url()).json(0);
    assert_eq!(again["rows_unchanged"], ODD.len());
    // A rename that only a byte-wise comparison sees is a rename.
    gecko.set_list(list(ODD).replace("\"name\":\"Bitcoin\"", "\"name\":\"Bitcoin \""));
    assert_eq!(db.ask(&["assets", "upsert"], &gecko.url()).json(0)["rows_updated"], 1);
    assert_eq!(db.lines("SELECT name FROM assets WHERE source_id = 'btc'"), ["Bitcoin "]);
}

fn prices_of_ids_that_look_alike_stay_apart(db: &TestDb) {
    let price = |n: usize| format!("{n}.5");
    let records = ODD.iter().enumerate().map(|(n, (id, ..))| {
        Record::new(id, &[("current_price", &price(n)), ("last_updated", "\"2026-09-16T09:14:20Z\"")])
    });
    let gecko = Gecko::new(records.collect());
    gecko.set_list(list(ODD));
    db.ask(&["assets", "upsert"], &gecko.url()).json(0);
    for written in [ODD.len(), 0] {
        let result = db.ask(&["prices", "insert"], &gecko.url()).json(0);
        assert_eq!((&result["rows_read"], &result["rows_written"]), (&ODD.len().into(), &written.into()));
    }
    for (n, (id, ..)) in ODD.iter().enumerate() {
        let rows = db.query("SELECT a.source_id, p.price FROM prices p JOIN assets a ON a.id = p.asset_id");
        let of_id: Vec<_> = rows.iter().filter(|row| row[0].as_deref() == Some(id)).collect();
        assert_eq!(of_id.len(), 1, "{id:?}");
        assert_eq!(of_id[0][1], Some(price(n)), "{id:?}");
    }
}

fn what_no_database_can_hold_is_rejected_alone(db: &TestDb) {
    let longest = "é".repeat(127) + "x";
    let too_long = "é".repeat(128);
    let bad = [
        r#"{"id":"a\u0000b","symbol":"a","name":"a"}"#.to_owned(),
        r#"{"id":"nul-symbol","symbol":"\u0000","name":"a"}"#.to_owned(),
        r#"{"id":"nul-name","symbol":"a","name":"x\u0000"}"#.to_owned(),
        r#"{"id":"half","symbol":"\ud83d","name":"half a pair"}"#.to_owned(),
        format!(r#"{{"id":"{too_long}","symbol":"a","name":"a"}}"#),
        r#"{"id":"","symbol":"a","name":"a"}"#.to_owned(),
        r#"{"id":null,"symbol":"a","name":"a"}"#.to_owned(),
        r#"{"symbol":"a","name":"a"}"#.to_owned(),
        r#"{"id":["a"],"symbol":"a","name":"a"}"#.to_owned(),
        "17".to_owned(),
    ];
    let good = [
        r#"{"id":"good","symbol":"g","name":"Good"}"#.to_owned(),
        format!(r#"{{"id":"{longest}","symbol":"long","name":"Longest"}}"#),
        r#"{"id":"no-labels"}"#.to_owned(),
        r#"{"id":"more","symbol":"m","name":"More","platforms":{"":""},"x":[1,{"y":null}]}"#.to_owned(),
    ];
    let gecko = Gecko::new(Vec::new());
    // In turns, so that a bad one that took its neighbour along would be seen.
    let records: Vec<&str> = bad.iter().zip(good.iter().cycle()).flat_map(|(bad, good)| [good.as_str(), bad]).collect();
    gecko.set_list(format!("[{}]", records.join(",")));
    for run in 1..=2 {
        let result = db.ask(&["assets", "upsert"], &gecko.url()).json(3);
        assert_eq!((&result["status"], &result["rows_rejected"]), (&"partial".into(), &bad.len().into()));
        assert_eq!(result["rows_read"], bad.len() + good.len());
        assert!(result["error"].as_str().unwrap().contains("dead_letters"), "{result}");
        let changed = if run == 1 { good.len() } else { 0 };
        assert_eq!(result["rows_written"], changed);
    }
    assert_eq!(
        db.lines("SELECT source_id FROM assets WHERE source_id <> 'good' ORDER BY symbol"),
        ["no-labels", &longest, "more"]
    );
    // Kept once, whole, with the reason, although they came twice.
    let mut kept = db.lines("SELECT payload FROM dead_letters");
    kept.sort();
    let mut sent: Vec<String> = bad.to_vec();
    sent.sort();
    assert_eq!(kept, sent);
    let odd = "SELECT COUNT(*) FROM dead_letters WHERE topic <> 'coins/list' OR source <> 'coingecko' OR error = '' \
               OR partition_id IS NOT NULL OR offset_id IS NOT NULL OR run_id <> 1";
    assert_eq!(db.number(odd), 0);
    assert_eq!(db.number("SELECT COUNT(*) FROM dead_letters WHERE error LIKE '%U+0000%'"), 3);
    assert_eq!(db.number("SELECT COUNT(*) FROM dead_letters WHERE error LIKE '%255%'"), 1);
}

fn labels_on_a_price_page_survive_too(db: &TestDb) {
    let record = Record {
        id: "x".into(),
        json: r#"{"id":"x ","symbol":"\u200bŠ🟥 ","name":"C:\\x \"y\" '","current_price":1,"last_updated":null}"#
            .into(),
    };
    let gecko = Gecko::new(vec![record]);
    db.ask(&["prices", "insert"], &gecko.url()).json(0);
    let stored = db.query("SELECT source_id, symbol, name FROM assets");
    assert_eq!(stored, [[Some("x ".to_owned()), Some("\u{200b}Š🟥 ".to_owned()), Some("C:\\x \"y\" '".to_owned())]]);
}

fn odd_ids_can_be_asked_for(db: &TestDb) {
    let ids = ["1move token", "-10", "_", "grōk", "🟥🟩", "a&b=c", "50%25", "x+y", "#1"];
    let gecko = Gecko::new(ids.iter().map(|id| Record::new(id, &[("current_price", "1")])).collect());
    let list = ids.join(",");
    let result = db.ask(&["prices", "insert", &format!("--ids={list}")], &gecko.url()).json(0);
    assert_eq!((&result["rows_written"], &result["calls"]), (&ids.len().into(), &1.into()));
    assert_eq!(gecko.take_calls()[0].param("ids"), Some(list.as_str()));
}
