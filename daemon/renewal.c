#include "daemon/renewal.h"

#define WHY_MAX 512

static void set_timer(struct mt_renewal *r, uint64_t ms);

static void on_timer(uv_timer_t *timer)
{
	struct mt_renewal *r = timer->data;
	char why[WHY_MAX] = "";
	bool changed = false;
	int rv = r->renew(r->user, &changed, why, sizeof(why));

	if (rv == 0) {
		r->stored = r->stored || changed;
		rv = r->stored ? r->publish(r->user, why, sizeof(why)) : 0;
	}
	if (rv != 0) {
		r->told(r->user, why);
	} else if (r->stored) {
		r->stored = false;
		r->told(r->user, NULL);
	}
	set_timer(r, rv == 0 ? r->every_ms : r->again_ms);
}

static void set_timer(struct mt_renewal *r, uint64_t ms)
{
	(void)uv_timer_start(&r->timer, on_timer, ms, 0); /* fails only for a closing handle */
}

void mt_renewal_start(struct mt_renewal *r, uv_loop_t *loop)
{
	(void)uv_timer_init(loop, &r->timer); /* cannot fail */
	r->timer.data = r;
	r->stored = false;
	set_timer(r, r->every_ms);
}

void mt_renewal_soon(struct mt_renewal *r)
{
	if (r->timer.data != NULL && !uv_is_closing((uv_handle_t *)&r->timer)) {
		set_timer(r, 0);
	}
}

void mt_renewal_stop(struct mt_renewal *r)
{
	if (r->timer.data != NULL) {
		uv_close((uv_handle_t *)&r->timer, NULL);
	}
}
