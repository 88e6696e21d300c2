//! Fair queueing: a queue for each user, served in turn (Nagle, RFC 970).

use std::collections::VecDeque;

/// Items in service order: first in, first out within a user, and in turn between users.
/// Users are few, so their queues are searched linearly.
#[derive(Debug)]
pub struct RoundRobinQueue<U, T> {
    queues: VecDeque<(U, VecDeque<T>)>,
    /// Emptied queues, reused to save allocations.
    spare: Vec<VecDeque<T>>,
}

/// Maximum of emptied queues to retain.
const MAX_SPARE: usize = 8;

impl<U, T> Default for RoundRobinQueue<U, T> {
    fn default() -> Self {
        Self { queues: VecDeque::new(), spare: Vec::new() }
    }
}

impl<U: PartialEq, T> RoundRobinQueue<U, T> {
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
    pub(crate) fn user_count(&self) -> usize {
        self.queues.len()
    }

    /// The first item of the user in turn.
    pub fn pop(&mut self) -> Option<T> {
        let (user, mut queue) = self.queues.pop_front()?;
        let item = queue.pop_front();
        if queue.is_empty() {
            self.recycle(queue);
        } else {
            self.queues.push_back((user, queue));
        }
        item
    }

    /// Takes the first items of every user that together cost at most `allowance` per
    /// user.
    pub fn take_within_allowance(
        &mut self,
        allowance: usize,
        cost: fn(&T) -> usize,
        taken: &mut Vec<T>,
    ) {
        // Backwards, so that removing a queue leaves the remaining indices valid.
        for at in (0..self.queues.len()).rev() {
            let queue = &mut self.queues[at].1;
            let mut budget = allowance;
            while let Some(remaining) =
                queue.front().and_then(|item| budget.checked_sub(cost(item)))
            {
                budget = remaining;
                taken.extend(queue.pop_front());
            }
            if queue.is_empty()
                && let Some((_, queue)) = self.queues.remove(at)
            {
                self.recycle(queue);
            }
        }
    }

    fn recycle(&mut self, queue: VecDeque<T>) {
        if self.spare.len() < MAX_SPARE {
            self.spare.push(queue);
        }
    }
}
