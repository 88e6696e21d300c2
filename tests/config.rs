//! Settings from a file, the environment and the command line.
//!
//! A binary of its own: one test here reads the environment of its process.
#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use segmentd::config::{AppConfig, Environment, LogFormat, PromotionMode};
use tempfile::TempDir;

/// Loads `file` under `environment` and `overrides`.
fn load(
    file: &str,
    environment: impl Into<Environment>,
    overrides: &[(&str, &str)],
) -> Result<AppConfig, Vec<String>> {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("segmentd.toml");
    fs::write(&path, file).unwrap();
    let overrides: Vec<_> =
        overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    AppConfig::load_from(Some(&path), &environment.into(), &overrides)
        .map_err(|faults| faults.0.iter().map(ToString::to_string).collect())
}

fn faults_of_file(file: &str) -> Vec<String> {
    load(file, [], &[]).unwrap_err()
}

#[test]
fn the_defaults_are_those_of_the_manual() {
    let config = load("", [("HOME", "/home/ada")], &[]).unwrap();
    assert_eq!(config.http.listen_address.to_string(), "127.0.0.1:8080");
    assert_eq!(config.http.request_timeout, Duration::from_secs(30));
    assert!(config.database.url.is_none() && config.features.file.is_none());
    assert_eq!(config.database.state_directory, PathBuf::from("/home/ada/.local/state/segmentd"));
    assert_eq!(config.training.schedule.unwrap().to_string(), "0 3 * * *");
    assert_eq!(config.training.promote, PromotionMode::Automatic);
    assert_eq!(config.log.format, LogFormat::Text);
}

/// One place for each user, whatever the working directory.
#[test]
fn the_state_directory_is_that_of_the_user() {
    let state = |environment: Environment, overrides: &[(&str, &str)]| {
        load("", environment, overrides).unwrap().database.state_directory
    };
    let (home, other) = (("HOME", "/home/ada"), ("XDG_STATE_HOME", "/srv/state"));
    assert_eq!(state(Environment::from([home, other]), &[]), PathBuf::from("/srv/state/segmentd"));
    let relative = Environment::from([home, ("XDG_STATE_HOME", "state")]);
    assert_eq!(state(relative, &[]), PathBuf::from("/home/ada/.local/state/segmentd"));
    assert_eq!(state(Environment::default(), &[]), PathBuf::from("/var/lib/segmentd"));
    let configured = [("database.state_directory", "/data")];
    assert_eq!(state(Environment::from([home]), &configured), PathBuf::from("/data"));
    let faults = load("[database]\nstate_directory = 'data'", [home], &[]).unwrap_err();
    assert!(faults[0].contains("`data`, a relative path"), "{faults:#?}");
}

#[test]
fn later_layers_win() {
    let file = "[http]\nbind = '127.0.0.1:1'\nmax_scoring_requests = 7\n[log]\nlevel = 'warn'\n";
    let environment = [("SEGMENTD_HTTP__BIND", "127.0.0.1:2"), ("SEGMENTD_LOG__LEVEL", "debug")];
    let config = load(file, environment, &[("http.bind", "127.0.0.1:3")]).unwrap();
    assert_eq!(config.http.listen_address.port(), 3);
    assert_eq!(config.log.level, "debug");
    assert_eq!(config.http.requests.scoring, 7);
    assert_eq!(config.http.max_body_bytes, 4_194_304);
}

#[test]
fn database_url_wins_over_our_own_variable() {
    let ours = ("SEGMENTD_DATABASE__URL", "postgres://ours/a");
    let usual = ("DATABASE_URL", "postgres://usual/b");
    for (environment, expected) in
        [(vec![ours], ours.1), (vec![usual], usual.1), (vec![ours, usual], usual.1)]
    {
        let environment = match environment.as_slice() {
            [one] => Environment::from([*one]),
            two => Environment::from([two[0], two[1]]),
        };
        let config = load("[database]\nurl = 'postgres://file/c'", environment, &[]).unwrap();
        assert_eq!(config.database.url.unwrap().expose(), expected);
    }
}

#[test]
fn every_error_is_reported_at_once_with_its_line() {
    let file = "[http]\n\
        bnd = '127.0.0.1:1'\n\
        max_body_bytes = 'large'\n\
        request_timeout_seconds = 0\n\
        [training]\n\
        schedule = '61 3 * * *'\n\
        holdout_share = 1\n\
        segments = '2.5'\n\
        backtest_horizons_days = '30, a week, 800'\n\
        [log]\n\
        level = 'inof'\n\
        format = 'xml'\n";
    let faults = faults_of_file(file);
    let expected = [
        "line 2: http.bnd: is not a setting; did you mean `http.bind`?",
        "line 3: http.max_body_bytes: is of type string, not a whole number",
        "line 4: http.request_timeout_seconds: is 0, not within 1 to 3600",
        "line 6: training.schedule: `61 3 * * *` is not five cron fields",
        "line 7: training.holdout_share: is 1, not within 0.01 to 0.9",
        "line 8: training.segments: `2.5` is not `automatic`, a number, or a range such as 4..8",
        "line 9: training.backtest_horizons_days: `a week` is not a whole number of days",
        "line 9: training.backtest_horizons_days: must be at most 6 different numbers from 1 to 730",
        "line 11: log.level: `inof` is neither a level (info) nor a list (info,sqlx=warn)",
        "line 12: log.format: is `xml`, not `text` or `json`",
    ];
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for (fault, expected) in faults.iter().zip(expected) {
        assert!(fault.starts_with(expected), "{fault}\nis not\n{expected}");
    }
}

#[test]
fn a_syntax_error_is_reported_with_its_line() {
    let faults = faults_of_file("[http]\nbind = \n[log]\nlevel = 'loud'\n");
    assert!(faults[0].starts_with("line 2: TOML: "), "{faults:#?}");
    assert!(faults[1].starts_with("line 4: log.level: "), "{faults:#?}");
    assert_eq!(faults.len(), 2, "{faults:#?}");
}

#[test]
fn keys_outside_every_section_are_refused() {
    let faults = faults_of_file("bind = '127.0.0.1:1'\n[htpp]\nbind = '127.0.0.1:1'\n");
    assert_eq!(faults[0], "line 1: bind: is not a setting");
    assert_eq!(faults[1], "line 3: htpp.bind: is not a setting; did you mean `http.bind`?");
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let file = "[http]\nbind = '127.0.0.1:9090'\nmax_line_bytes = 2048\n\
        [training]\nminimum_customers = 3\nsegments = '4..8'\n";
    let faults = faults_of_file(file);
    let about = |path: &str| faults.iter().any(|fault| fault.contains(path));
    assert_eq!(faults.len(), 3, "{faults:#?}");
    assert!(about("admin.bind") && about("http.max_line_bytes"));
    assert!(about(
        "training.minimum_customers: is less than the largest number of training.segments, 8"
    ));
}

#[test]
fn the_environment_is_checked_like_a_file() {
    let environment = [
        ("SEGMENTD_HTTP__BNID", "127.0.0.1:1"),
        ("SEGMENTD_HTTP_BIND", "127.0.0.1:1"),
        ("SEGMENTD_TRAINING__SEGMENTS", "many"),
        ("SEGMENTD_SCORING__OUTLIER_ALPHA", "2"),
        ("SEGMENTD_HYSTERESIS__MIN_RELATIVE_ADVANTAGE", "1"),
    ];
    let faults =
        load("", environment, &[("http.port", "1"), ("training.starts", "0")]).unwrap_err();
    let expected = [
        "SEGMENTD_HTTP_BIND: is not a setting; did you mean SEGMENTD_HTTP__BIND?",
        "SEGMENTD_HTTP__BNID: is not a setting; did you mean SEGMENTD_HTTP__BIND?",
        "training.segments: `many` is not `automatic`, a number, or a range such as 4..8 (set by SEGMENTD_TRAINING__SEGMENTS)",
        "http.port: is not a setting (set on the command line)",
        "scoring.outlier_alpha: is 2, not within 0.000001 to 0.499999 (set by SEGMENTD_SCORING__OUTLIER_ALPHA)",
        "hysteresis.min_relative_advantage: is 1, not within 0 to 0.99 (set by SEGMENTD_HYSTERESIS__MIN_RELATIVE_ADVANTAGE)",
        "training.starts: is 0, not within 1 to 1000 (set on the command line)",
    ];
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for expected in expected {
        assert!(faults.iter().any(|fault| fault.starts_with(expected)), "{expected}\n{faults:#?}");
    }
}

#[test]
fn switches_are_true_or_false_in_every_layer() {
    let defaults = load("", [], &[]).unwrap();
    assert!(defaults.drift.is_enabled && !defaults.lifecycle.has_shadow_phase);
    let file = "[drift]\nenabled = false\n[lifecycle]\nshadow_phase = true\n";
    let environment = [("SEGMENTD_GATES__REQUIRE_FIGURES", "true")];
    let overrides = [("alerts.allow_private_addresses", "true"), ("policy.rollback", "false")];
    let config = load(file, environment, &overrides).unwrap();
    assert!(!config.drift.is_enabled && config.lifecycle.has_shadow_phase);
    assert!(config.gates.require_figures && config.outbound.allow_private_addresses);
    assert!(!config.policy.probation.rollback);

    let file = "[drift]\nenabled = 'yes'\n[lifecycle]\nshadow_phase = 1\n";
    let environment = [("SEGMENTD_GATES__REQUIRE_FIGURES", "no")];
    let faults = load(file, environment, &[("policy.rollback", "yes")]).unwrap_err();
    let expected = [
        "gates.require_figures: `no` is not true or false (set by SEGMENTD_GATES__REQUIRE_FIGURES)",
        "policy.rollback: `yes` is not true or false (set on the command line)",
        "line 2: drift.enabled: is of type string, not true or false",
        "line 4: lifecycle.shadow_phase: is of type integer, not true or false",
    ];
    assert_eq!(faults, expected);
}

#[test]
fn variables_of_container_platforms_are_ignored() {
    let environment =
        [("SEGMENTD_SERVICE_HOST", "10.0.0.1"), ("SEGMENTD_PORT", "tcp://10.0.0.1:80")];
    assert!(load("", environment, &[]).is_ok());
}

#[test]
fn secrets_come_from_files_and_are_never_printed() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("url");
    fs::write(&path, "postgres://me:hunter2@host/db\n").unwrap();
    let path = path.to_str().unwrap();
    for name in ["DATABASE_URL_FILE", "SEGMENTD_DATABASE__URL_FILE"] {
        let config = load("", [(name, path)], &[]).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        assert_eq!(config.database.url.unwrap().expose(), "postgres://me:hunter2@host/db");
    }

    let both = [("DATABASE_URL_FILE", path), ("DATABASE_URL", "postgres://host/db")];
    let faults = load("", both, &[]).unwrap_err();
    assert_eq!(faults, ["DATABASE_URL_FILE: is set beside DATABASE_URL; unset one of them"]);
    let faults = load("", [("DATABASE_URL_FILE", "/nonexistent")], &[]).unwrap_err();
    assert!(faults[0].starts_with("DATABASE_URL_FILE: /nonexistent: "), "{faults:#?}");
    let faults = load("", [("DATABASE_URL", "mysql://me:hunter2@host")], &[]).unwrap_err();
    assert!(!faults[0].contains("hunter2"), "{faults:#?}");
}

#[test]
fn the_file_setting_is_no_secret_in_a_file() {
    // FEATURES__FILE ends in _FILE, but `file` is the name of the setting.
    let config = load("", [("SEGMENTD_FEATURES__FILE", "mine.toml")], &[]).unwrap();
    assert_eq!(config.features.file.unwrap(), PathBuf::from("mine.toml"));
}

#[test]
fn an_unreadable_file_is_an_error() {
    let faults = AppConfig::load_from(Some("/nonexistent".as_ref()), &Environment::default(), &[]);
    assert!(faults.unwrap_err().to_string().starts_with("/nonexistent: "));
}

/// The only test that depends on the environment of its process.
#[test]
fn the_environment_of_the_process_is_read() {
    const MARK: &str = "SEGMENTD_TRAINING__SEED";
    if Environment::of_process().contains(MARK) {
        let config = AppConfig::load(None, &[]).unwrap();
        assert_eq!(config.training.seed, 12);
        return;
    }
    let copy = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_environment_of_the_process_is_read"])
        .env(MARK, "12")
        .env_remove("DATABASE_URL")
        .output()
        .unwrap();
    assert!(copy.status.success(), "{}", String::from_utf8_lossy(&copy.stdout));
}

#[test]
fn a_mail_server_is_a_secret_with_a_sender() {
    let good = "[alerts]\nmail_server = 'smtps://user:hidden@mail.example.com'\n\
        mail_from = 'segmentd@example.com'";
    let config = load(good, [], &[]).unwrap();
    let mail = config.outbound.mail.as_ref().unwrap();
    assert_eq!(mail.server.expose().host_str(), Some("mail.example.com"));
    assert!(!format!("{config:?}").contains("hidden"));
    assert!(load("", [], &[]).unwrap().outbound.mail.is_none());

    let directory = TempDir::new().unwrap();
    let path = directory.path().join("mail");
    fs::write(&path, "smtp://mail.internal:2525\n").unwrap();
    let environment = [
        ("SEGMENTD_ALERTS__MAIL_SERVER_FILE", path.to_str().unwrap()),
        ("SEGMENTD_ALERTS__MAIL_FROM", "segmentd@example.com"),
    ];
    let mail = load("", environment, &[]).unwrap().outbound.mail.unwrap();
    assert_eq!(mail.server.expose().port(), Some(2525));

    for server in ["https://hidden", "hidden", "smtp://", "smtp://:25", "smtp:///hidden"] {
        let file = format!("[alerts]\nmail_server = '{server}'\nmail_from = 'nobody'");
        let faults = faults_of_file(&file);
        assert_eq!(faults.len(), 2, "{faults:#?}");
        assert!(faults[0].starts_with("line 2: alerts.mail_server: is not an address such as"));
        assert!(faults[1].starts_with("line 3: alerts.mail_from: `nobody` is not a mail address"));
        assert!(!faults.concat().contains("hidden"), "{faults:#?}");
    }
}
