//! What is known of the past, as the library states it: in all three databases.

use std::time::Duration;

use coinetl::db::{Session, coverage};
use coinetl::domain::{Range, Span, Stamp, State, Timeframe};

use crate::support::test_db::TestDb;

on_every_database!(the_newest_word_on_an_interval_counts);

fn at(text: &str) -> Stamp {
    Stamp::parse(&format!("2026-06-{text}:00:00Z")).unwrap()
}

fn the_newest_word_on_an_interval_counts(db: &TestDb) {
    for id in [1, 2] {
        db.execute(&format!(
            "INSERT INTO assets (id, source, source_id, symbol, name, active, first_seen_at, updated_at) \
             VALUES ({id}, 's', 'c{id}', '', '', TRUE, '2026-01-01 00:00:00.000', '2026-01-01 00:00:00.000')"
        ));
    }
    let say = |asset: i64, timeframe: Timeframe, spans: &[(&str, &str, State, Option<&str>)]| {
        let mut session = Session::begin(db.open(), "test", "s", Duration::ZERO).unwrap();
        let said = session.batch(|batch| {
            for (from, to, state, reason) in spans {
                coverage::record(batch, asset, "usd", timeframe, at(from), at(to), *state, *reason)?;
            }
            Ok(())
        });
        said.unwrap();
        session.finish(coinetl::db::runs::Status::Ok, None, Default::default()).unwrap();
        session.run_id()
    };
    let stored = || {
        db.lines(
            "SELECT asset_id, timeframe, from_time, to_time, state, reason, run_id FROM coverage \
             ORDER BY asset_id, timeframe, from_time",
        )
    };
    let first = say(
        1,
        Timeframe::H1,
        &[
            ("01T00", "01T10", State::Full, None),
            ("01T10", "02T00", State::Full, None),
            ("02T10", "02T20", State::Empty, Some("nothing there ")),
            ("02T20", "02T22", State::Empty, Some("nothing there")),
            // From nowhere to nowhere, and backwards: no word.
            ("02T05", "02T05", State::Full, None),
            ("02T07", "02T05", State::Full, None),
        ],
    );
    say(2, Timeframe::H1, &[("01T00", "03T00", State::Unreachable, Some("365 days"))]);
    say(1, Timeframe::D1, &[("01T00", "03T00", State::Full, None)]);
    let before = stored();
    assert_eq!(
        before[1..4],
        [
            format!("1|1h|2026-06-01 00:00:00.000|2026-06-02 00:00:00.000|full|NULL|{first}"),
            format!("1|1h|2026-06-02 10:00:00.000|2026-06-02 20:00:00.000|empty|nothing there |{first}"),
            format!("1|1h|2026-06-02 20:00:00.000|2026-06-02 22:00:00.000|empty|nothing there|{first}"),
        ]
    );
    // The same again is no news.
    say(1, Timeframe::H1, &[("01T03", "01T12", State::Full, None)]);
    assert_eq!(stored(), before);
    let last = say(1, Timeframe::H1, &[("01T20", "02T15", State::Missing, Some("it failed"))]);
    let after = stored();
    assert_eq!(
        after[1..5],
        [
            format!("1|1h|2026-06-01 00:00:00.000|2026-06-01 20:00:00.000|full|NULL|{last}"),
            format!("1|1h|2026-06-01 20:00:00.000|2026-06-02 15:00:00.000|missing|it failed|{last}"),
            format!("1|1h|2026-06-02 15:00:00.000|2026-06-02 20:00:00.000|empty|nothing there |{last}"),
            format!("1|1h|2026-06-02 20:00:00.000|2026-06-02 22:00:00.000|empty|nothing there|{first}"),
        ]
    );
    // Of another coin or timeframe nothing was said.
    assert_eq!((&after[0], &after[5]), (&before[0], &before[4]));
    let closed = say(1, Timeframe::H1, &[("01T20", "02T22", State::Full, None)]);
    assert_eq!(stored()[1], format!("1|1h|2026-06-01 00:00:00.000|2026-06-02 22:00:00.000|full|NULL|{closed}"));

    let within = Range::new(at("02T00"), at("02T02")).unwrap();
    let mut opened = db.open();
    let known = coverage::of(&mut opened.conn, &[1, 2, 3], "usd", Timeframe::H1, within).unwrap();
    // As intervals, neighbours are one.
    let settled = |span: &Span| span.state.is_settled();
    let wide = Range::new(at("01T00"), at("03T00")).unwrap();
    let of_all = coverage::of(&mut opened.conn, &[1, 2, 3], "usd", Timeframe::H1, wide).unwrap();
    let few = coverage::known(&mut opened.conn, &[1, 2, 3], "usd", Timeframe::H1, wide, settled).unwrap();
    assert_eq!(few.len(), of_all.len());
    for (id, spans) in &of_all {
        let joined = |spans: Vec<Span>| -> Vec<(i64, i64)> {
            let mut out: Vec<(i64, i64)> = Vec::new();
            for span in spans {
                match out.last_mut() {
                    Some(last) if last.1 == span.range.from.millis() => last.1 = span.range.to.millis(),
                    _ => out.push((span.range.from.millis(), span.range.to.millis())),
                }
            }
            out
        };
        let pairs = |ranges: &[Range]| ranges.iter().map(|r| (r.from.millis(), r.to.millis())).collect::<Vec<_>>();
        assert_eq!(pairs(&few[id].any), joined(spans.clone()));
        assert_eq!(pairs(&few[id].settled), joined(spans.iter().filter(|span| settled(span)).cloned().collect()));
    }
    let whole = Range::new(at("01T00"), at("02T22")).unwrap();
    assert_eq!(known[&1], [Span { range: whole, state: State::Full, reason: None }]);
    assert_eq!((known[&2].len(), known.get(&3)), (1, None));
}
