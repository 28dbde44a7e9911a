//! Waits for what rarely happens, beside what happens all the time.
//!
//! A future that is polled again takes the locks of whatever it waits for, at each wait of its task.
//! Those of here are polled once, and then only after one of them has woken its task.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// One future of a task's that is seldom ready.
pub(super) struct Seldom<F> {
    future: Pin<Box<F>>,
    bell: Arc<Bell>,
    waker: Waker,
    /// Whom the bell wakes.
    task: Option<Waker>,
}

/// Says that the future may be ready.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Bell {
    fn task(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        if let Some(task) = &*self.task() {
            task.wake_by_ref();
        }
    }
}

impl<F: Future> Seldom<F> {
    pub(super) fn new(future: F) -> Self {
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: Mutex::default() });
        let waker = Waker::from(bell.clone());
        Self { future: Box::pin(future), bell, waker, task: None }
    }

    /// Waits for another.
    pub(super) fn set(&mut self, future: F) {
        self.future.set(future);
        self.bell.rung.store(true, Ordering::Release);
    }

    /// As the future's own, which may not be polled again once it was ready.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<F::Output> {
        if !self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            self.task = Some(cx.waker().clone());
            *self.bell.task() = Some(cx.waker().clone());
        }
        // A bell that rings from here on wakes the task once more.
        if !self.bell.rung.load(Ordering::Acquire) || !self.bell.rung.swap(false, Ordering::AcqRel)
        {
            return Poll::Pending;
        }
        self.future.as_mut().poll(&mut Context::from_waker(&self.waker))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn a_future_is_polled_only_after_it_rang() {
        let (notify, polls) = (Notify::new(), Cell::new(0));
        let notified = notify.notified();
        tokio::pin!(notified);
        let mut seldom = Seldom::new(poll_fn(|cx| {
            polls.set(polls.get() + 1);
            notified.as_mut().poll(cx)
        }));
        for _ in 0..3 {
            let waits = poll_fn(|cx| Poll::Ready(seldom.poll(cx).is_pending())).await;
            assert!(waits);
        }
        assert_eq!(polls.get(), 1);
        let (woken, ()) = tokio::join!(poll_fn(|cx| seldom.poll(cx)), async {
            tokio::task::yield_now().await;
            notify.notify_waiters();
        });
        assert_eq!((woken, polls.get()), ((), 2));
    }
}
