//! Faults on request.

use super::*;

#[test]
fn faults_have_the_vendors_bodies() {
    let bench = bench(600);
    let listings = "/v1/cryptocurrency/listings/latest?limit=500";
    let strike = |target: &str, kind, bits| {
        let (status, body) = bench.text(target, Some(Struck { kind, bits }));
        (status, serde_json::from_str::<Value>(&body).unwrap())
    };
    for (kind, status, code) in [
        (FaultKind::TooMany, 429, 1008),
        (FaultKind::TooManyBare, 429, 1008),
        (FaultKind::Internal, 500, 500),
        (FaultKind::Spent, 429, 1010),
        (FaultKind::ErrorIn200, 200, 500),
    ] {
        let (got, json) = strike(listings, kind, 0);
        assert_eq!((got, &json["status"]["error_code"]), (status, &code.into()), "{kind}");
    }
    assert_eq!(strike(listings, FaultKind::ErrorIn200, 1).1["status"]["error_code"], 1008);
    let keyless = strike("/public-api/v3/cryptocurrency/listings/latest", FaultKind::TooMany, 0).1;
    assert_eq!(keyless["status"]["error_code"], "1011");
    let v3 = "/v3/cryptocurrency/listings/latest";
    assert_eq!(strike(v3, FaultKind::Gone, 0).0, 404);
    for (target, met) in [(v3, true), (listings, false), ("/public-api/v3/cryptocurrency/quotes/latest", true)] {
        assert_eq!(bench.vendor.meets(FaultKind::Gone, &bench.call(target)), met);
    }
    let empty = strike(v3, FaultKind::Empty, 0).1;
    assert_eq!((&empty["data"], &empty["status"]["error_code"]), (&Value::Array(vec![]), &"0".into()));
    assert!(strike("/v2/cryptocurrency/quotes/latest?id=1", FaultKind::Empty, 0).1["data"].is_object());

    let plain = ids(&bench.data("/v3/cryptocurrency/listings/latest?start=301&limit=100"));
    let shifted = ids(&strike("/v3/cryptocurrency/listings/latest?start=301&limit=100", FaultKind::Shift, 8).1["data"]);
    let common = shifted.iter().filter(|id| plain.contains(id)).count();
    assert!((70..100).contains(&common), "{common}");

    let endless = bench.vendor.endless(&bench.call(listings));
    let twice = [endless.first, endless.again.clone(), endless.again, b"]}".to_vec()].concat();
    let json: Value = serde_json::from_slice(&twice).unwrap();
    assert_eq!(json["data"].as_array().unwrap().len(), 300);
}

#[test]
fn garbage_spoils_some_records_and_leaves_the_page_json() {
    type Raw = Box<serde_json::value::RawValue>;
    let bench = bench(600);
    // As raw text: one of the spoilt values is a number beyond any double.
    let records = |target: &str, struck| -> Vec<String> {
        #[derive(serde::Deserialize)]
        struct Body {
            data: Raw,
        }
        let body: Body = serde_json::from_str(&bench.text(target, struck).1).unwrap();
        let records: Vec<Raw> = match body.data.get().as_bytes()[0] {
            b'[' => serde_json::from_str(body.data.get()).unwrap(),
            _ => serde_json::from_str::<BTreeMap<String, Raw>>(body.data.get()).unwrap().into_values().collect(),
        };
        records.iter().map(|record| record.get().to_owned()).collect()
    };
    for target in [
        "/v1/cryptocurrency/listings/latest?limit=300",
        "/v3/cryptocurrency/listings/latest?limit=300",
        "/v2/cryptocurrency/quotes/latest?id=1,2,52,74,825,1027",
    ] {
        let plain = records(target, None);
        let mut kinds = BTreeSet::new();
        for bits in 0..60 {
            let spoilt = records(target, Some(Struck { kind: FaultKind::Garbage, bits }));
            assert_eq!(spoilt.len(), plain.len());
            let changed: Vec<_> = spoilt.iter().zip(&plain).filter(|(a, b)| a != b).collect();
            assert!(!changed.is_empty() && changed.len() < 3 + plain.len() / 8, "{}", changed.len());
            kinds.extend(changed.into_iter().map(|(spoilt, _)| spoilt.len() % 97));
        }
        assert!(kinds.len() > 10);
    }
}
