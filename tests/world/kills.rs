//! Machines that go away again and again.

use std::path::Path;
use std::time::Duration;

use crate::ends::{Place, assert_same, wait_for_steps};
use crate::launch::{assert_done, checkpoints, rows, signal};

const RANKS: usize = 3;
const KILLS: usize = 50;
/// Long enough that no run gets to its end between two kills: each gets less than three epochs further.
const EPOCHS: &str = "epochs=80";
/// Steps of an epoch, after which there is a checkpoint.
const STEPS: usize = 4;

/// Numbers that look random (Knuth's multiplier), the same in every run of the test.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// Steps that the newest checkpoint has behind it.
fn saved(run: &Path) -> usize {
    let newest = checkpoints(run).pop();
    let name = newest.and_then(|path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    let epochs = name.and_then(|name| name.strip_prefix("epoch-")?.parse::<usize>().ok());
    STEPS * epochs.unwrap_or_default()
}

/// A random rank is killed at a random moment: while it starts, in a step, while it saves. What is left goes on, is killed again, and
/// ends with the bits of the run that was never killed.
#[test]
fn fifty_kills_change_nothing() {
    let place = Place::new();
    let whole = place.run("whole");
    assert_done(&place.train(RANKS, &whole, &["--set", EPOCHS]));
    let killed = place.run("killed");
    let out = Path::new(&killed);
    let (mut draw, mut starting, mut kills) = (Draw(20), 0, 0);
    while kills < KILLS {
        let more: &[&str] = if out.join("config.toml").exists() { &["--resume"] } else { &[] };
        let before = saved(out);
        let mut run = place.start(RANKS, &killed, &[&["--set", EPOCHS], more].concat());
        match draw.below(5) {
            0 => std::thread::sleep(Duration::from_millis(draw.below(500) as u64)),
            _ => {
                wait_for_steps(&mut run, &killed, before + 1 + draw.below(2 * STEPS));
                std::thread::sleep(Duration::from_millis(draw.below(30) as u64));
            }
        }
        assert!(!run.is_over(), "it ended by itself, {before} steps saved before: {:?}", run.end());
        let ranks = run.ranks();
        // The launcher may have started none yet.
        let Some(id) = ranks.get(draw.below(RANKS)) else { continue };
        starting += usize::from(rows(out, "step").len() <= before);
        signal("KILL", &[*id]);
        assert!(!run.end_soon().status.success(), "one that lost a rank cannot end well");
        kills += 1;
    }
    println!("{kills} kills, {starting} of them before the first step, {} steps saved", saved(out));
    assert_done(&place.train(RANKS, &killed, &["--set", EPOCHS, "--resume"]));
    assert_same(&whole, &killed);
}
