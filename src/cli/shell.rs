//! `ocelli completions` and `ocelli man`: what a shell and a manual reader want to know of the commands.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, outputs};

/// Print the completions of a shell: commands, flags and their values
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli completions bash > ~/.local/share/bash-completion/completions/ocelli\n  ocelli completions zsh > ~/.zfunc/_ocelli   # a folder in $fpath\n  ocelli completions fish > ~/.config/fish/completions/ocelli.fish\n  ocelli completions powershell >> $PROFILE"
)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Write the manual: a page for each command
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli man --out man && man -l man/ocelli-eval-knn.1\n  ocelli man --out ~/.local/share/man/man1   # then: man ocelli"
)]
pub struct ManArgs {
    /// Folder for the pages. It is made if it is not there; older pages of Ocelli in it are replaced
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

pub fn completions(args: &CompletionsArgs) -> anyhow::Result<()> {
    // In memory first: the generator panics where nobody reads its output any more.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "ocelli", &mut script);
    match std::io::stdout().write_all(&script) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e).context("cannot write the completions"),
        _ => Ok(()),
    }
}

pub fn man(args: &ManArgs) -> anyhow::Result<()> {
    let pages = pages()?;
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("--out: cannot make the folder {}", args.out.display()))?;
    for (name, page) in &pages {
        outputs::write(&args.out.join(format!("{name}.1")), page)?;
    }
    println!("{} pages: {}", pages.len(), args.out.display());
    Ok(())
}

/// The name and the text of each page; commands that are not listed have none.
fn pages() -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut all = Cli::command().disable_help_subcommand(true);
    // Gives the commands within others their full names.
    all.build();
    let mut pages = Vec::new();
    add_pages(&all, &mut pages)?;
    Ok(pages)
}

fn add_pages(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> anyhow::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let mut page = Vec::new();
    Man::new(command.clone())
        .title(name.clone())
        .source(concat!("ocelli ", env!("CARGO_PKG_VERSION")))
        .render(&mut page)
        .with_context(|| format!("cannot write the page of {name}"))?;
    pages.push((name, page));
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        add_pages(inner, pages)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command that is listed, with the commands before it.
    fn listed(command: &Command, before: &str, found: &mut Vec<(String, Command)>) {
        let name = format!("{before}{}", command.get_name());
        for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
            listed(inner, &format!("{name} "), found);
        }
        found.push((name, command.clone()));
    }

    fn all() -> Vec<(String, Command)> {
        let mut found = Vec::new();
        listed(&Cli::command(), "", &mut found);
        found
    }

    #[test]
    fn every_command_has_an_example() {
        assert!(all().len() > 30);
        for (name, command) in all() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let is_shown = help.contains("Examples:") || help.contains("Start here:");
            assert!(is_shown && help.contains("\n  ocelli "), "{name}: {help}");
        }
    }

    #[test]
    fn every_command_has_a_page() {
        let pages = pages().unwrap();
        assert_eq!(pages.len(), all().len());
        let page = |name: &str| {
            let (_, page) = pages.iter().find(|(found, _)| found == name).unwrap();
            String::from_utf8(page.clone()).unwrap()
        };
        assert!(page("ocelli").contains("pretrain"));
        let knn = page("ocelli-eval-knn");
        assert!(knn.contains(".TH ") && knn.contains("ocelli eval knn") && knn.contains("temperature"), "{knn}");
        assert!(!pages.iter().any(|(name, _)| name.contains("fault") || name.contains("help")));
    }
}
