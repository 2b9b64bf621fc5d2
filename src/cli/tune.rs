//! `ocelli devices --tune`: the choices of `--kernels auto`, made ahead of time.

use anyhow::bail;
use ocelli::kernels::{Choice, Mode, choices, choices_file, is_unreadable, set_mode};
use ocelli::train::device::{self, AdapterKind};
use ocelli::train::tune::works;
use serde_json::{Value, json};

use super::bench::bar;
use super::devices::DevicesArgs;
use super::talk;

pub fn run(args: &DevicesArgs) -> anyhow::Result<()> {
    let adapters = device::adapters();
    let (picked, reason) = device::pick(args.device.device, &adapters)?;
    match picked.map(|index| &adapters[index]) {
        Some(adapter) if adapter.kind != AdapterKind::Software => {}
        Some(adapter) => bail!(
            "--tune: expected a graphics card, found {} ({reason}), which computes on the CPU. There is nothing to choose: the \
             hand-written kernels are always the faster ones there",
            adapter.name
        ),
        None => bail!(
            "--tune: expected a graphics card, found the CPU ({reason}). There is nothing to choose: it has one kernel for each \
             operation"
        ),
    }
    let works = works(&args.preset)?;
    let (file, chosen) = (choices_file(), args.device.open()?);
    set_mode(Mode::Auto);
    let notes = talk::notes(args.json);
    if let (true, Some(file)) = (notes, file.as_deref().filter(|file| is_unreadable(file))) {
        println!("{} is damaged or of another version, and is written anew", file.display());
    }
    let bar = bar(works.len());
    for work in &works {
        bar.set_message(work.name());
        if let Err(error) = work.choose(&chosen.device) {
            // The others fit, as a rule.
            bar.suspend(|| {
                if notes {
                    println!("{}: {error}", work.name());
                }
            });
        }
        bar.inc(100);
    }
    bar.finish_and_clear();
    let found = choices().unwrap_or_default();
    match args.json {
        true => println!("{:#}", fields(&chosen.name, &found)),
        false => println!("{}", table(&found)),
    }
    if let (true, Some(file)) = (notes, &file) {
        println!("kept in {}", file.display());
    }
    Ok(())
}

fn words(choice: &Choice) -> &'static str {
    if choice.ours_s <= choice.stock_s { "hand-written" } else { "burn's own" }
}

fn table(choices: &[Choice]) -> String {
    let width = choices.iter().map(|choice| choice.class.len()).max().unwrap_or(0);
    let head = format!("{:width$}  {:>12}  {:>12}  chosen", "operation and shapes", "hand-written", "burn's own");
    let line = |c: &Choice| {
        let [ours, stock] = [c.ours_s, c.stock_s].map(|s| format!("{:.3} ms", s * 1e3));
        format!("{:width$}  {ours:>12}  {stock:>12}  {}", c.class, words(c))
    };
    [head].into_iter().chain(choices.iter().map(line)).collect::<Vec<_>>().join("\n")
}

fn fields(device: &str, choices: &[Choice]) -> Value {
    let row =
        |c: &Choice| json!({ "class": c.class, "ours_s": c.ours_s, "stock_s": c.stock_s, "chosen": words(c) });
    json!({ "device": device, "choices": choices.iter().map(row).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_told_with_both_times() {
        let of = |class: &str, ours_s, stock_s| Choice { class: class.to_owned(), ours_s, stock_s };
        let choices = [of("linear 256x384x1152", 1e-3, 2e-3), of("mlp branch 8x4x16 training", 3e-3, 2e-3)];
        let table = table(&choices);
        let lines: Vec<&str> = table.lines().collect();
        assert!(
            lines[1].ends_with("1.000 ms      2.000 ms  hand-written") && lines[2].ends_with("burn's own"),
            "{table}"
        );
        assert_eq!(fields("card", &choices)["choices"][1]["chosen"], "burn's own");
    }
}
