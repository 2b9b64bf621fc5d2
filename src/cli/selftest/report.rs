//! The report of a self-test: as text to read, as JSON to send.

use std::path::Path;
use std::time::Duration;

use ocelli::train::device::Adapter;
use ocelli::train::selftest::{Outcome, Row};
use serde_json::{Value, json};

use super::super::doctor::{cpu_features, cpu_name, target, without_home};
use super::super::{devices, outputs};

/// What a report begins with, in text and in JSON: over nothing else is one written.
const MARK: [&str; 2] = ["ocelli devices --selftest\n", "{\n  \"about\": \"ocelli devices --selftest\""];

/// What is known of the device, and what was found.
pub struct Report {
    adapter: Option<(usize, Adapter)>,
    family: String,
    rows: Vec<Row>,
    /// What was being done when this was written; nothing once all is done.
    doing: Option<String>,
    took: Duration,
}

impl Report {
    /// Of a device before anything is tested; no adapter is the CPU.
    pub fn new(adapter: Option<(usize, &Adapter)>, family: String) -> Self {
        let adapter = adapter.map(|(index, adapter)| (index, adapter.clone()));
        Self { adapter, family, rows: Vec::new(), doing: None, took: Duration::ZERO }
    }

    /// Takes over what is done, and what is being done.
    pub fn update(&mut self, rows: &[Row], doing: Option<&str>, took: Duration) {
        (self.rows, self.doing, self.took) = (rows.to_vec(), doing.map(str::to_owned), took);
    }

    /// Program, device and kernels.
    pub fn head(&self) -> String {
        let gpu = if cfg!(feature = "gpu") { "with the GPU backend" } else { "without the GPU backend" };
        let mut lines = vec![("ocelli", format!("{}, {}, {gpu}", env!("CARGO_PKG_VERSION"), target()))];
        match &self.adapter {
            None => lines.push(("device", [cpu().join(", "), cpu_features().join(" ")].join(", "))),
            Some((index, a)) => {
                lines.extend(["device", "", ""].into_iter().zip(devices::lines(*index, a)));
                lines.push((
                    "",
                    format!(
                        "buffers up to {} MiB, {} of them in a kernel, {} workgroups, subgroups of {} to {}",
                        a.max_buffer_bytes >> 20,
                        a.max_storage_buffers,
                        a.max_workgroups,
                        a.subgroup_range[0],
                        a.subgroup_range[1]
                    ),
                ));
                lines.push(("features", a.features.join(" ")));
            }
        }
        lines.push(("kernels", self.family.clone()));
        let lines: Vec<String> = lines.iter().map(|(name, words)| format!("{name:<9} {words}")).collect();
        without_home(&lines.join("\n"))
    }

    /// A line for every kernel and shape.
    pub fn table(&self) -> String {
        let width = |of: &dyn Fn(&Row) -> usize| self.rows.iter().map(of).max().unwrap_or(0);
        let (kernels, shapes) = (width(&|r| r.kernel.chars().count()), width(&|r| r.shape.chars().count()));
        let mut lines = vec![format!(
            "{:<7}  {:kernels$}  {:shapes$}  {:>8}  {:>8}  {:<14}  {:>10}  {:>10}  {:>6}",
            "", "kernel", "shape", "apart by", "at most", "in", "ours", "burn's", "factor"
        )];
        for row in &self.rows {
            let dash = || "–".to_owned();
            let worst = row.outcome.worst();
            let [apart, most] = [worst.map(|d| d.largest), worst.map(|d| d.tolerance)]
                .map(|x| x.map_or_else(dash, |x| format!("{x:.1e}")));
            let [ours, stock] =
                [row.ours_s, row.stock_s].map(|s| s.map_or_else(dash, |s| format!("{:.2} ms", s * 1e3)));
            let factor = factor(row).map_or_else(dash, |f| format!("{f:.2}×"));
            lines.push(format!(
                "{:<7}  {:kernels$}  {:shapes$}  {apart:>8}  {most:>8}  {:<14}  {ours:>10}  {stock:>10}  {factor:>6}",
                verdict(&row.outcome),
                row.kernel,
                row.shape,
                worst.map_or("–", |d| d.part)
            ));
            let said = match &row.outcome {
                Outcome::Failed(said) => Some(said),
                _ => row.untimed.as_ref(),
            };
            lines.extend(said.iter().flat_map(|said| said.lines()).map(|line| format!("         {line}")));
        }
        without_home(&lines.join("\n"))
    }

    /// What all of it means; an error where something is wrong.
    pub fn verdict(&self) -> Result<String, String> {
        let count = |of: &dyn Fn(&Outcome) -> bool| self.rows.iter().filter(|row| of(&row.outcome)).count();
        let (all, right) = (self.rows.len(), count(&Outcome::is_right));
        if let Some(doing) = &self.doing {
            return Err(format!("not at its end: {doing}"));
        }
        if all == right {
            return Ok(format!("all {all} comparisons are right; {:.0} s in all", self.took.as_secs_f64()));
        }
        let failed = count(&|o| matches!(o, Outcome::Failed(_)));
        let not_run = count(&|o| matches!(o, Outcome::NotRun));
        let wrong = all - right - failed - not_run;
        let parts = [(wrong, "wrong"), (failed, "failed"), (not_run, "not run, because the device was lost")];
        let parts: Vec<String> =
            parts.iter().filter(|(n, _)| *n > 0).map(|(n, words)| format!("{n} {words}")).collect();
        Err(format!(
            "of {all} comparisons {right} are right, {}. Please report it where you got Ocelli from, with the whole table or the \
             file of --out; until then --kernels stock, or --device cpu, computes without these kernels",
            parts.join(", ")
        ))
    }

    /// All of it as fields.
    pub fn json(&self) -> Value {
        let device = match &self.adapter {
            None => json!({ "device": "cpu", "name": cpu_name(), "features": cpu_features() }),
            Some((index, adapter)) => devices::fields(*index, adapter),
        };
        let rows: Vec<Value> = self.rows.iter().map(fields).collect();
        json!({
            // Comes first, and says what the file is.
            "about": "ocelli devices --selftest",
            "ocelli": { "version": env!("CARGO_PKG_VERSION"), "target": target(), "gpu": cfg!(feature = "gpu") },
            "device": device,
            "kernels": self.family,
            "passed": self.verdict().is_ok(),
            "doing": self.doing,
            "took_s": self.took.as_secs_f64(),
            "rows": rows,
        })
    }

    /// Writes the report: JSON where the name says so, else text.
    ///
    /// # Errors
    /// When another file is there, or it cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        if path.extension().is_some_and(|ext| ext.eq_ignore_ascii_case("json")) {
            return outputs::write_over_own(path, &format!("{:#}\n", self.json()), MARK[1]);
        }
        let words = self.verdict().unwrap_or_else(|words| words);
        let text = format!("{}\n{}\n\n{}\n\n{words}\n", MARK[0], self.head(), self.table());
        outputs::write_over_own(path, &text, MARK[0])
    }
}

/// The processor and its threads.
fn cpu() -> [String; 2] {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    [cpu_name().unwrap_or_else(|| "the CPU".to_owned()), format!("{threads} threads")]
}

fn verdict(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Compared(_) if outcome.is_right() => "ok",
        Outcome::Compared(_) => "WRONG",
        Outcome::Failed(_) => "FAILED",
        Outcome::NotRun => "not run",
    }
}

/// How many times as fast as burn's own.
fn factor(row: &Row) -> Option<f64> {
    Some(row.stock_s? / row.ours_s?.max(1e-9))
}

fn fields(row: &Row) -> Value {
    // What is no number has no place in JSON.
    let number = |x: f64| if x.is_finite() { json!(x) } else { json!("not finite") };
    let parts: Vec<Value> = match &row.outcome {
        Outcome::Compared(all) => all
            .iter()
            .map(|d| json!({ "part": d.part, "apart_by": number(d.largest), "at_most": d.tolerance, "right": d.is_small() }))
            .collect(),
        _ => Vec::new(),
    };
    let error = match &row.outcome {
        Outcome::Failed(said) => Some(without_home(said)),
        _ => None,
    };
    json!({
        "kernel": row.kernel, "shape": row.shape, "outcome": verdict(&row.outcome).to_lowercase(), "parts": parts, "error": error,
        "launched": row.launched, "ours_s": row.ours_s, "stock_s": row.stock_s, "factor": factor(row),
        "untimed": row.untimed.as_deref().map(without_home),
    })
}

#[cfg(test)]
mod tests {
    use ocelli::train::selftest::Difference;

    use super::*;

    fn row(outcome: Outcome) -> Row {
        let (kernel, shape) = ("attention", "1×197, 6 heads of 64".to_owned());
        Row {
            kernel,
            shape,
            outcome,
            launched: vec!["attention"],
            ours_s: Some(1e-3),
            stock_s: Some(3e-3),
            untimed: None,
        }
    }

    fn compared(largest: f64) -> Outcome {
        let of = |part, largest| Difference { part, largest, tolerance: 1e-5 };
        Outcome::Compared(vec![of("y", 1e-7), of("dqkv", largest)])
    }

    fn of(rows: &[Row]) -> Report {
        let mut report = Report::new(None, "of the CPU".to_owned());
        report.update(rows, None, Duration::from_secs(7));
        report
    }

    #[test]
    fn what_is_wrong_is_told_everywhere() {
        let right = of(&[row(compared(2e-6))]);
        assert!(right.verdict().is_ok_and(|words| words.contains("all 1") && words.contains("7 s")));
        assert!(right.table().contains("ok") && right.table().contains("3.00×") && right.table().contains("dqkv"));
        let outcomes = [
            compared(2e-6),
            compared(0.1),
            compared(f64::INFINITY),
            Outcome::Failed("refused".into()),
            Outcome::NotRun,
        ];
        let wrong = of(&outcomes.map(row));
        let words = wrong.verdict().unwrap_err();
        for part in ["5 comparisons", "1 are right", "2 wrong", "1 failed", "1 not run", "--kernels stock"] {
            assert!(words.contains(part), "expected \"{part}\" in: {words}");
        }
        let table = wrong.table();
        assert_eq!((table.matches("WRONG").count(), table.matches("FAILED").count()), (2, 1), "{table}");
        assert!(table.contains("         refused"), "{table}");
        let told = wrong.json();
        assert_eq!((&told["passed"], &told["rows"][3]["error"]), (&json!(false), &json!("refused")));
        assert_eq!(told["rows"][2]["parts"][1]["apart_by"], "not finite");
        assert_eq!(told["rows"][1]["outcome"], "wrong");
    }

    #[test]
    fn a_report_replaces_its_like_and_says_how_far_it_came() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["selftest.json", "selftest.txt"] {
            let path = folder.path().join(name);
            let mut report = of(&[row(compared(2e-6))]);
            report.update(&[], Some("comparing conv2d"), Duration::ZERO);
            report.write(&path).unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains("comparing conv2d") && !text.contains("attention"), "{text}");
            of(&[row(compared(2e-6))]).write(&path).unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains("attention") && !text.contains("comparing conv2d"), "{text}");
            let other = folder.path().join(format!("other-{name}"));
            std::fs::write(&other, "mine").unwrap();
            assert!(report.write(&other).unwrap_err().to_string().contains("found another"));
        }
    }
}
