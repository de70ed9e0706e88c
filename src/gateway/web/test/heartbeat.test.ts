import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Heartbeat, TICK } from '../src/heartbeat';

/** Ticks from `from` to `to`, and gives what was sent and said. */
function ticked(heart: Heartbeat, from: number, to: number, isVisible = true) {
  const beats = [];
  for (let now = from; now <= to; now += TICK) beats.push({ now, ...heart.tick(now, isVisible) });
  return beats;
}

function answeredOnce(): Heartbeat {
  const heart = new Heartbeat(0);
  heart.tick(0, true);
  heart.heard();
  heart.answer(1, 40);
  return heart;
}

test('whenever the network is lost, it is shown within three seconds', () => {
  for (let loss = 0; loss < 900; loss += 50) {
    const heart = answeredOnce();
    for (let now = TICK; ; now += TICK) {
      const { serial, state } = heart.tick(now, true);
      if (serial !== undefined && now < loss) {
        heart.heard();
        heart.answer(serial, now);
      }
      if (state === 'quiet') {
        assert.ok(now - loss <= 3_000, `lost at ${loss}, shown at ${now}`);
        break;
      }
      assert.ok(now < 10_000);
    }
  }
});

test('the way there and back is measured', () => {
  const heart = answeredOnce();
  assert.equal(heart.latency, 40);
  heart.answer(99, 50);
  assert.equal(heart.latency, 40);
});

test('silence is first shown, then a loss, and any word ends it', () => {
  const heart = answeredOnce();
  const states = ticked(heart, TICK, 12_900).map(({ state }) => state);
  assert.deepEqual([...new Set(states)], ['well', 'quiet', 'lost']);
  heart.heard();
  assert.equal(heart.tick(13_200, true).state, 'well');
});

test('a computer that slept asks first', () => {
  const heart = answeredOnce();
  ticked(heart, TICK, 900);
  const woken = heart.tick(3_600_000, true);
  assert.equal(woken.state, 'well');
  assert.ok(woken.serial);
});

test('a network that came back shortens the wait', () => {
  const heart = answeredOnce();
  ticked(heart, TICK, 2_700);
  heart.hurry(2_700);
  assert.equal(heart.tick(3_000, true).state, 'quiet');
  assert.equal(heart.tick(4_800, true).state, 'lost');
});

test('keys are asked about soon, and no more than that', () => {
  const heart = answeredOnce();
  heart.typed(0);
  const beats = ticked(heart, TICK, 3_000).filter(({ serial }) => serial !== undefined);
  assert.equal(beats[0]!.now, TICK);
  assert.ok(beats.length <= 5);
});

test('a beat is asked for at once where keys have come, not too often', () => {
  const heart = answeredOnce();
  assert.equal(heart.ask(100), undefined);
  heart.typed(100);
  assert.equal(heart.ask(100), 2);
  assert.equal(heart.ask(101), undefined);
  heart.typed(102);
  assert.equal(heart.ask(110), undefined);
  assert.equal(heart.ask(120), 3);
});

test('a way that is always slow is not lost', () => {
  const heart = answeredOnce();
  heart.tick(900, true);
  heart.heard();
  heart.answer(2, 900 + 1_500);
  assert.ok(ticked(heart, 2_700, 5_400).every(({ state }) => state === 'well'));
});
