//! From a question and a view of the mesh to an answer: ordered, and cut to what carries it.

use std::collections::BTreeSet;

use rand_core::RngCore;

use super::fit::{self, Delivery};
use super::order::Shuffler;
use super::plan::{Order, Plan, View, plan};
use super::{Question, Record, ResponseCode, Settings};
use crate::time::Timestamp;

/// A question with what matters about its caller.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The question.
    pub question: &'a Question,
    /// How the answer travels.
    pub delivery: Delivery,
    /// The present time; it is the zone's serial number.
    pub now: Timestamp,
}

/// An answer, ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What it says about the name.
    pub code: ResponseCode,
    /// What was asked for.
    pub answers: Vec<Record>,
    /// The zone's start in negative answers, its servers in some others.
    pub authority: Vec<Record>,
    /// Addresses of the names in `answers`.
    pub additional: Vec<Record>,
    /// Whether answers were left out and the caller should know.
    pub is_truncated: bool,
}

/// Answers a question from a view, cut to what its delivery carries.
///
/// The order of service answers comes from `rng`.
pub fn answer(
    asked: Asked<'_>,
    view: View<'_>,
    settings: &Settings,
    rng: &mut (impl RngCore + ?Sized),
) -> Answer {
    let plan = plan(asked.question, view, settings, asked.now);
    answer_of(&plan, asked, settings, rng)
}

/// Answers a question whose plan is made, as [`answer`] does.
pub fn answer_of(
    plan: &Plan,
    asked: Asked<'_>,
    settings: &Settings,
    rng: &mut (impl RngCore + ?Sized),
) -> Answer {
    let mut shuffler = Shuffler::default();
    let places: Vec<u32> = match plan.order {
        Order::Drawn => {
            let weights: Vec<u32> = plan.picks.iter().map(|pick| pick.weight).collect();
            shuffler.draw(&weights, &plan.ranges(), plan.picks_max, rng).to_vec()
        }
        Order::Kept => {
            let count = plan.picks.len().min(plan.picks_max);
            (0..u32::try_from(count).unwrap_or(u32::MAX)).collect()
        }
    };
    let picks = || places.iter().map(|place| &plan.picks[*place as usize]);
    let mut seen = BTreeSet::new();
    let beside = picks().flat_map(|pick| &pick.beside).filter(|record| seen.insert(*record));
    let mut answer = Answer {
        code: plan.code,
        answers: picks().map(|pick| pick.record.clone()).collect(),
        authority: plan.authority.clone(),
        additional: plan.additional.iter().chain(beside).cloned().collect(),
        is_truncated: false,
    };
    fit::cut(&mut answer, asked.question, asked.delivery, settings);
    answer
}
