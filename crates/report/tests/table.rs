//! Runs as rows of a table.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::path::Path;

use ocelli_report::{Published, Run, Table, TableRow};
use serde_json::{Value, json};
use support::{START, finished, rows, text, write_run};

/// A finished run, one of which little is left, and one with names that are markup.
fn table(root: &Path) -> Table {
    let whole = root.join("whole");
    write_run(&whole, &text(&finished(rows(3))), "scenes:640");
    // Its linear probe.
    let mut metrics = rows(3);
    for row in metrics.iter_mut().filter(|row| row["event"] == "epoch") {
        row["linear_top1"] = json!(40.25 + row["epoch"].as_f64().unwrap());
    }
    write_run(&whole.join("linear"), &text(&finished(metrics)), "scenes:640");
    let probe = "task = \"linear\"\nprotocol = \"dino\"\nfeatures = \"cls-4\"\ncached = true\nepochs = 3\n";
    fs::write(whole.join("linear/config.toml"), probe).unwrap();
    let config = fs::read_to_string(whole.join("config.toml")).unwrap();
    fs::write(whole.join("config.toml"), format!("seed = 7\n{config}")).unwrap();
    let bare = root.join("bare");
    fs::create_dir(&bare).unwrap();
    fs::write(bare.join("metrics.jsonl"), "{\"event\":\"step\",\"step\":3,\"epoch\":0,\"loss\":4.5}\n{\"ev")
        .unwrap();
    let odd = root.join("odd");
    write_run(&odd, &text(&rows(2)), "<script>alert(1)</script> | *a*\n`b`");
    let row = |name: &str| TableRow::of(&Run::read(&root.join(name)).unwrap(), name, START + 1e6);
    let mut first = row("whole");
    first.images_per_second = Some(123.456);
    first.published = Some(Published {
        row: "DINO, ImageNet, 800 epochs".into(),
        linear: Some(77.0),
        knn: Some(74.5),
        images_per_second: Some(1007.0),
        note: "by others".into(),
        ..Published::default()
    });
    Table { rows: vec![first, row("bare"), row("odd")], notes: vec!["a note".into()] }
}

#[test]
fn a_row_is_what_the_run_came_to() {
    let folder = tempfile::tempdir().unwrap();
    let table = table(folder.path());
    let (header, lines) = table.texts();
    let of = |line: usize, title: &str| {
        let column = header.iter().position(|h| h == title).unwrap_or_else(|| panic!("{title} in {header:?}"));
        lines[line][column].as_str()
    };
    for (title, expected) in [
        ("run", "whole"),
        ("method", "DINO"),
        ("architecture", "vit-96x4x3/8"),
        ("params, M", "0.47"),
        ("im/s", "123"),
        ("train im/s", "320"),
        ("linear", "42.2"),
        ("k-NN", "32.0"),
        ("epochs", "3"),
        ("data", "scenes:640"),
        ("time", "1 min 40 s"),
        ("seed", "7"),
        ("published: linear", "77.0"),
        ("published: k-NN", "74.5"),
        ("published: V100 im/s", "1007"),
        ("published: of", "DINO, ImageNet, 800 epochs"),
    ] {
        assert_eq!(of(0, title), expected, "{title}");
    }
    // What nobody measured is no column, and a run without it has a dash.
    assert!(!header.iter().any(|h| h.contains("VOC")), "{header:?}");
    assert!(lines[1][1..].iter().filter(|text| *text != "–").count() == 1, "{:?}", lines[1]);
    assert_eq!(of(2, "published: linear"), "–");
    let text = table.text();
    let (titles, first) = (text.lines().nth(1).unwrap(), text.lines().nth(2).unwrap());
    let place = |line: &str| line.chars().position(|c| c == '│').unwrap();
    assert!(text.starts_with(' ') && text.lines().all(|line| place(line) == place(titles)), "{text}");
    assert!(first.starts_with("whole ") && first.contains(" 42.2  32.0 "), "{text}");
    let remarks = table.remarks();
    let lacks = |name: &str| remarks.iter().find(|r| r.starts_with(&format!("{name} lacks"))).unwrap();
    for words in ["config.toml", "parameters", "linear", "k-NN", "data", "time", "seed"] {
        assert!(lacks("bare").contains(words), "{words}: {remarks:?}");
    }
    assert!(!remarks.iter().any(|r| r.starts_with("whole lacks")), "{remarks:?}");
    assert!(
        lacks("odd").ends_with("lacks linear accuracy (ocelli eval linear --weights RUN); its seed"),
        "{remarks:?}"
    );
    assert!(remarks.contains(&"published: DINO, ImageNet, 800 epochs: by others".to_owned()), "{remarks:?}");
}

#[test]
fn markdown_has_a_line_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let text = table(folder.path()).markdown();
    assert!(text.starts_with(Table::MARKDOWN));
    let lines: Vec<&str> = text.lines().filter(|l| l.starts_with('|')).collect();
    assert_eq!(lines.len(), 2 + 3);
    // Columns are divided where no bar is escaped.
    let columns = |line: &str| line.replace("\\|", "").matches('|').count();
    assert!(lines.iter().all(|line| columns(line) == columns(lines[0])), "{text}");
    assert!(lines[1].contains("---:") && text.contains("\n- a note"), "{text}");
    assert!(text.contains("&lt;script&gt;alert(1)&lt;/script&gt; \\| \\*a\\* \\`b\\`"), "{text}");
}

#[test]
fn json_has_everything_in_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let text = table(folder.path()).json();
    assert!(text.starts_with(Table::JSON));
    let all: Value = serde_json::from_str(&text).unwrap();
    let row = &all["rows"][0];
    assert_eq!((&row["knn"], &row["knn_k"], &row["linear"]), (&json!(32.0), &json!(20), &json!(42.25)));
    let how = "protocol dino, 3 epochs, cls-4, features computed once";
    assert_eq!(row["linear_how"], how);
    assert_eq!((&row["parameters"], &row["seed"], &row["time_s"]), (&json!(469_728.0), &json!(7), &json!(100.0)));
    assert_eq!((&row["published"]["linear"], &row["lacks"]), (&json!(77.0), &json!([])));
    assert_eq!((&all["rows"][1]["method"], &all["rows"][1]["published"]), (&Value::Null, &Value::Null));
    assert_eq!(all["rows"][2]["data"], "<script>alert(1)</script> | *a*\n`b`");
}

#[test]
fn the_page_asks_nobody_and_sorts() {
    let folder = tempfile::tempdir().unwrap();
    let html = table(folder.path()).html(START);
    for word in ["http:", "https:", "src=\"", "@import", "url(", "<link", "fetch(", "<script>alert"] {
        assert!(!html.contains(word), "the page contains {word}");
    }
    assert!(html.contains("table.sorts") && html.contains("default-src 'none'"));
    for tag in ["section", "div", "table", "thead", "tbody", "tr", "ul", "header", "footer", "main", "button"] {
        let opened = html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "<{tag}>");
    }
    assert!(html.contains("<td class=\"number\" data-v=\"42.25\">42.2</td>"), "{html}");
    assert!(html.contains("<td class=\"number others first\" data-v=\"77\">77.0</td>"), "{html}");
}
