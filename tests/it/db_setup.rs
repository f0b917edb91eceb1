//! `db-setup`: the schema gets there once, by whoever comes first, and is never guessed.

use crate::support::gecko::Gecko;
use crate::support::test_db::{Backend, TestDb};

on_every_database!(bare:
    setup_makes_the_database_and_the_second_one_changes_nothing,
    check_says_no_until_the_schema_is_there,
    two_setups_at_once_both_succeed,
    without_a_schema_every_other_command_refuses,
);

on_every_database!(a_schema_newer_than_the_binary_is_refused);

fn setup_makes_the_database_and_the_second_one_changes_nothing(db: &TestDb) {
    let first = db.setup();
    assert_eq!((&first["command"], &first["status"]), (&"db-setup".into(), &"ok".into()));
    assert!(!first["applied"].as_array().unwrap().is_empty());
    let tables = "SELECT version, run_on FROM __diesel_schema_migrations";
    let before = db.lines(tables);

    let second = db.setup();
    assert!(second["applied"].as_array().unwrap().is_empty());
    assert_eq!(db.lines(tables), before);
    let text = db.coinetl(&["db-setup"]).run().expect(0);
    assert!(text.stdout.contains("up to date"), "{text}");
    assert_eq!(text.stderr, "");
}

fn check_says_no_until_the_schema_is_there(db: &TestDb) {
    // Twice, because a check that makes the database would say something else the second time.
    for _ in 0..2 {
        let no = db.coinetl(&["db-setup", "--check"]).json(1);
        assert_eq!(no["status"], "failed");
        assert!(!no["pending"].as_array().unwrap().is_empty());
        assert!(no["error"].as_str().unwrap().contains("db-setup"));
    }
    assert!(db.backend() != Backend::Sqlite || !db.workdir().file("it.db").exists());
    db.setup();
    let yes = db.coinetl(&["db-setup", "--check"]).json(0);
    assert_eq!((&yes["status"], &yes["pending"]), (&"ok".into(), &serde_json::json!([])));
    // The database is there, the schema is not: as after a restore that was too short.
    db.execute("DELETE FROM __diesel_schema_migrations");
    db.coinetl(&["db-setup", "--check"]).json(1);
}

fn two_setups_at_once_both_succeed(db: &TestDb) {
    let running: Vec<_> = (0..3).map(|_| db.coinetl(&["db-setup"]).spawn()).collect();
    for setup in running {
        setup.wait().expect(0);
    }
    db.coinetl(&["db-setup", "--check"]).run().expect(0);
}

fn without_a_schema_every_other_command_refuses(db: &TestDb) {
    let gecko = Gecko::usual(1);
    let commands: [&[&str]; 2] = [&["assets", "upsert"], &["prices", "insert"]];
    for command in commands {
        let missing = db.ask(command, &gecko.url()).json(78);
        assert!(missing["error"].as_str().unwrap().contains("db-setup"), "{missing}");
    }
    db.setup();
    db.execute("DELETE FROM __diesel_schema_migrations");
    for command in commands {
        let older = db.ask(command, &gecko.url()).json(78);
        assert!(older["error"].as_str().unwrap().contains("db-setup"), "{older}");
    }
    assert!(gecko.take_calls().is_empty(), "a call was spent in vain");
}

fn a_schema_newer_than_the_binary_is_refused(db: &TestDb) {
    db.execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('99991231235959')");
    let commands: [&[&str]; 4] =
        [&["db-setup"], &["db-setup", "--check"], &["assets", "upsert"], &["prices", "insert"]];
    for command in commands {
        let refused = db.coinetl(command).json(78);
        assert!(refused["error"].as_str().unwrap().contains("99991231235959"), "{refused}");
    }
    assert_eq!(db.number("SELECT COUNT(*) FROM runs"), 0);
}
