#include "daemon/supervise.h"

#include "daemon/log.h"
#include "daemon/metrics.h"

#include <inttypes.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

static void finish(struct mt_supervisor *s)
{
	if (s->stopped) {
		return;
	}
	s->stopped = true;
	/* libuv gives the signals back their default action: from here on another one ends the
	 * process at once. */
	uv_close((uv_handle_t *)&s->term, NULL);
	uv_close((uv_handle_t *)&s->intr, NULL);
	uv_close((uv_handle_t *)&s->drain, NULL);
	uv_close((uv_handle_t *)&s->watchdog, NULL);
	mt_control_close(s->control);
	mt_appliance_stop(s->appliance);
	mt_log(MT_LOG_INFO, "stopped");
}

static void on_drain_timeout(uv_timer_t *timer)
{
	struct mt_supervisor *s = timer->data;
	const struct mt_appliance *a = s->appliance;

	mt_log(MT_LOG_WARN, "drain_timeout",
		MT_LOG_NUMBER("tunnels",
			mt_metric_sum_of("tunnels_active", a->counters, a->facts.workers)));
	finish(s);
}

static void on_now(uv_timer_t *timer)
{
	finish(timer->data);
}

/* May come from deep inside the appliance: it is stopped from the loop instead. */
static void on_drained(void *user)
{
	struct mt_supervisor *s = user;

	if (!s->stopped) {
		(void)uv_timer_start(&s->drain, on_now, 0, 0); /* fails only for a closing handle */
	}
}

static void on_signal(uv_signal_t *handle, int number)
{
	struct mt_supervisor *s = handle->data;

	if (s->stopping) {
		mt_log(MT_LOG_WARN, "stopping_at_once", MT_LOG_NUMBER("signal", number));
		finish(s);
		return;
	}
	s->stopping = true;
	mt_log(MT_LOG_INFO, "stopping", MT_LOG_NUMBER("signal", number));
	(void)sd_notify(0, "STOPPING=1\nSTATUS=Draining"); /* nobody may be listening */
	(void)uv_timer_start(&s->drain, on_drain_timeout, MT_DRAIN_MS, 0); /* as above */
	mt_appliance_drain(s->appliance, on_drained, s);
}

static void look(struct mt_worker *w, unsigned index, void *user)
{
	(void)w;
	(void)index;
	(void)user;
}

static void alive(void *user, bool cancelled)
{
	struct mt_supervisor *s = user;

	s->watchdog_pending = false;
	if (!cancelled) {
		(void)sd_notify(0, "WATCHDOG=1"); /* nobody may be listening */
	}
}

static void on_watchdog(uv_timer_t *timer)
{
	static const struct mt_round_ops ops = {.work = look, .done = alive};
	struct mt_supervisor *s = timer->data;

	if (!s->watchdog_pending) {
		s->watchdog_pending = true;
		/* Without memory for the question the watchdog goes hungry this time. */
		if (mt_appliance_ask(s->appliance, -1, &ops, s) != 0) {
			s->watchdog_pending = false;
		}
	}
}

static void tell_ready(const struct mt_appliance *a)
{
	bool degraded = a->facts.state == MT_STATE_DEGRADED;

	/* Degraded is ready as well: the control socket answers, and a restart would change
	 * nothing. */
	(void)sd_notifyf(0, "READY=1\nSTATUS=%s%s", degraded ? "Degraded: " : "Serving tunnels",
		a->facts.problem); /* as above */
}

static int take_signal(uv_loop_t *loop, uv_signal_t *handle, int number, struct mt_supervisor *s)
{
	int rv = uv_signal_init(loop, handle); /* libuv's codes are negative errnos */

	handle->data = s;
	return rv != 0 ? rv : uv_signal_start(handle, on_signal, number);
}

int mt_supervisor_start(struct mt_supervisor *s, uv_loop_t *loop, struct mt_appliance *appliance,
	struct mt_control *control)
{
	uint64_t period_us = 0;
	int rv;

	*s = (struct mt_supervisor){.appliance = appliance, .control = control};
	rv = take_signal(loop, &s->term, SIGTERM, s);
	if (rv == 0) {
		rv = take_signal(loop, &s->intr, SIGINT, s);
	}
	if (rv != 0) {
		return rv;
	}
	(void)uv_timer_init(loop, &s->drain); /* cannot fail */
	(void)uv_timer_init(loop, &s->watchdog);
	s->drain.data = s;
	s->watchdog.data = s;
	if (sd_watchdog_enabled(0, &period_us) > 0) {
		uint64_t half_ms = period_us / 2000 > 0 ? period_us / 2000 : 1;

		(void)uv_timer_start(&s->watchdog, on_watchdog, half_ms,
			half_ms); /* fails only for a closing handle */
	}
	tell_ready(appliance);
	return 0;
}
