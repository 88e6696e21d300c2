//! Fair queueing: a queue for each user, served in turn (Nagle, RFC 970).

use std::collections::VecDeque;

/// Items in the order in which they are to be served: of one user first in, first out;
/// of several, in turn. Queues are few, and are searched from the first to the last.
#[derive(Debug)]
pub struct RoundRobin<U, T> {
    queues: VecDeque<(U, VecDeque<T>)>,
    /// The queues of users that have left, to be used again.
    spare: Vec<VecDeque<T>>,
}

/// Queues that are worth to be used again.
const MAX_SPARE: usize = 8;

impl<U, T> Default for RoundRobin<U, T> {
    fn default() -> Self {
        Self { queues: VecDeque::new(), spare: Vec::new() }
    }
}

impl<U: PartialEq, T> RoundRobin<U, T> {
    pub fn push(&mut self, user: U, item: T) {
        if let Some((_, queue)) = self.queues.iter_mut().find(|(known, _)| *known == user) {
            queue.push_back(item);
            return;
        }
        let mut queue = self.spare.pop().unwrap_or_default();
        queue.push_back(item);
        self.queues.push_back((user, queue));
    }

    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Users with items.
    pub fn users(&self) -> usize {
        self.queues.len()
    }

    /// The first item of the user whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        let (user, mut queue) = self.queues.pop_front()?;
        let item = queue.pop_front();
        if queue.is_empty() {
            self.keep(queue);
        } else {
            self.queues.push_back((user, queue));
        }
        item
    }

    /// Of every user the first items that together cost at most `allowance`.
    pub fn take_cheap(&mut self, allowance: usize, cost: fn(&T) -> usize, taken: &mut Vec<T>) {
        for at in (0..self.queues.len()).rev() {
            let queue = &mut self.queues[at].1;
            let mut left = allowance;
            while let Some(rest) = queue.front().and_then(|item| left.checked_sub(cost(item))) {
                left = rest;
                taken.extend(queue.pop_front());
            }
            if queue.is_empty()
                && let Some((_, queue)) = self.queues.remove(at)
            {
                self.keep(queue);
            }
        }
    }

    fn keep(&mut self, queue: VecDeque<T>) {
        if self.spare.len() < MAX_SPARE {
            self.spare.push(queue);
        }
    }
}
