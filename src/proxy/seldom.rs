//! A future that has something to say once in a long while becomes one that costs next to nothing while it has not.

use futures::task::AtomicWaker;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// Whether anything has happened since the future was last asked.
struct Woken {
    is: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is.store(true, Ordering::Release);
        self.task.wake();
    }
}

/// The same, asked only when it was itself that woke the task. A task asks all that it waits for whenever it is woken, and timers and
/// watches take a lock each time, some of them one that all terminals share.
pub fn seldom<F: Future>(mut future: Pin<&mut F>) -> impl Future<Output = F::Output> {
    let woken = Arc::new(Woken {
        is: AtomicBool::new(true),
        task: AtomicWaker::new(),
    });
    let waker = Waker::from(Arc::clone(&woken));
    poll_fn(move |context| {
        woken.task.register(context.waker());
        if woken.is.swap(false, Ordering::Acquire) {
            future.as_mut().poll(&mut Context::from_waker(&waker))
        } else {
            Poll::Pending
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::pin::pin;
    use std::time::Duration;
    use tokio::time::{interval, sleep};

    #[tokio::test(start_paused = true)]
    async fn it_is_asked_when_it_has_something_to_say_and_not_whenever_its_task_is() {
        let asked = Cell::new(0);
        let mut rare = pin!(async {
            let mut waiting = pin!(sleep(Duration::from_secs(60)));
            poll_fn(|context| {
                asked.set(asked.get() + 1);
                waiting.as_mut().poll(context)
            })
            .await;
            "over"
        });
        let mut often = interval(Duration::from_secs(1));
        let mut rare = pin!(seldom(rare.as_mut()));
        let mut ticks = 0;
        let said = loop {
            tokio::select! {
                said = &mut rare => break said,
                _ = often.tick() => ticks += 1,
            }
        };
        assert_eq!((said, asked.get()), ("over", 2));
        assert!(ticks >= 60, "{ticks}");
    }
}
