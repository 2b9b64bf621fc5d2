//! Many problems, each along its costs, on one kernel.

use super::kernel::Kernel;
use super::problem::{Answer, Problem, Wanted};
use crate::dense;

/// A problem with the costs it is solved for, in this order. Rising costs make each optimum a good start for the
/// next.
pub(super) struct Path<T> {
    pub problem: Problem,
    costs: Vec<f64>,
    at: usize,
    wanted: Wanted,
    /// What was made of the optimum at each cost.
    pub found: Vec<T>,
    /// Costs at which the optimum was not reached.
    pub not_converged: usize,
}

impl<T> Path<T> {
    pub fn new(problem: Problem, costs: Vec<f64>) -> Self {
        Self { problem, costs, at: 0, wanted: Wanted::Nothing, found: Vec::new(), not_converged: 0 }
    }

    fn is_done(&self) -> bool {
        self.at == self.costs.len()
    }

    /// Goes on until something is wanted, or to the end.
    fn advance(&mut self, kernel: &Kernel, answer: Answer<'_>, make: impl Fn(&Problem) -> T) {
        let per_solution = |active| kernel.products_per_solution(active);
        self.wanted = self.problem.advance(answer, per_solution);
        while self.wanted == Wanted::Nothing && !self.is_done() {
            self.found.push(make(&self.problem));
            self.not_converged += usize::from(!self.problem.converged);
            self.at += 1;
            self.start();
        }
    }

    /// Sets the cost, where one is left, and asks for nothing yet.
    fn start(&mut self) {
        if let Some(cost) = self.costs.get(self.at) {
            self.problem.set_cost(*cost);
            self.wanted = self.problem.advance(Answer::None, |_| 0);
        }
    }
}

/// Solves all of them; `make` gets the number of a path and its problem at each optimum. `progress` hears now and
/// then how many optima of how many are found.
pub(super) fn solve<T: Send>(
    kernel: &Kernel,
    paths: &mut [Path<T>],
    threads: usize,
    make: impl Fn(usize, &Problem) -> T + Sync,
    progress: &mut dyn FnMut(usize, usize),
) {
    let all = paths.iter().map(|p| p.costs.len()).sum();
    dense::each(threads, paths.iter_mut().enumerate().collect(), |(i, path)| {
        path.start();
        // At the optimum at once, where nothing is to be learnt.
        if path.wanted == Wanted::Nothing && !path.is_done() {
            path.advance(kernel, Answer::None, |problem| make(i, problem));
        }
    });
    loop {
        progress(paths.iter().map(|p| p.at).sum(), all);
        let waiting: Vec<&mut Path<T>> = paths.iter_mut().filter(|p| p.wanted == Wanted::Solution).collect();
        let is_waiting = !waiting.is_empty();
        dense::each(threads, waiting, |path| {
            let (active, s, y) = path.problem.system();
            let solution = kernel.solve(&active, &s, &y);
            // Its product comes with those of the others; a cost does not end here.
            path.wanted = path.problem.advance(Answer::Solution(solution), |_| 0);
        });
        let waiting: Vec<(usize, &mut Path<T>)> =
            paths.iter_mut().enumerate().filter(|(_, p)| p.wanted == Wanted::Product).collect();
        if waiting.is_empty() {
            if is_waiting {
                continue;
            }
            break;
        }
        let vectors: Vec<&[f64]> = waiting.iter().map(|(_, path)| path.problem.vector()).collect();
        let products = kernel.products(&vectors, threads);
        let jobs = waiting.into_iter().zip(&products).collect();
        dense::each(threads, jobs, |((i, path), product): ((usize, &mut Path<T>), &Vec<f64>)| {
            path.advance(kernel, Answer::Product(product), |problem| make(i, problem));
        });
    }
}
