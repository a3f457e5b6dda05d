/* links: client/udp_flows.c */
#include "client/udp_flows.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static int one, two;

static void test_find_last_owner(void **state)
{
	struct mt_udp_flows *flows = mt_udp_flows_new();

	(void)state;
	assert_non_null(flows);
	assert_null(mt_udp_flows_find(flows, "h", 1, 53));
	assert_int_equal(mt_udp_flows_touch(flows, "h", 1, 53, &one, 1), 0);
	assert_int_equal(mt_udp_flows_touch(flows, "h", 1, 54, &two, 2), 0);
	assert_ptr_equal(mt_udp_flows_find(flows, "h", 1, 53), &one);
	assert_int_equal(mt_udp_flows_touch(flows, "h", 1, 53, &two, 3), 0);
	assert_ptr_equal(mt_udp_flows_find(flows, "h", 1, 53), &two);
	assert_null(mt_udp_flows_find(flows, "g", 1, 53));
	mt_udp_flows_forget(flows, &two);
	assert_int_equal(mt_udp_flows_count(flows), 0);
	mt_udp_flows_free(flows);
}

static void test_touch_over_the_cap(void **state)
{
	struct mt_udp_flows *flows = mt_udp_flows_new();

	(void)state;
	assert_non_null(flows);
	for (uint32_t i = 0; i <= MT_UDP_FLOWS_MAX; i++) {
		uint16_t port = (uint16_t)(1000 + i);

		assert_int_equal(mt_udp_flows_touch(flows, "host", 4, port, &one, i), 0);
		/* in use all the time: never the one that gives way */
		assert_int_equal(mt_udp_flows_touch(flows, "host", 4, 1000, &two, i), 0);
	}
	assert_int_equal(mt_udp_flows_count(flows), MT_UDP_FLOWS_MAX);
	assert_ptr_equal(mt_udp_flows_find(flows, "host", 4, 1000), &two);
	assert_null(mt_udp_flows_find(flows, "host", 4, 1001));
	mt_udp_flows_free(flows);
}

static void test_expire_idle(void **state)
{
	struct mt_udp_flows *flows = mt_udp_flows_new();

	(void)state;
	assert_non_null(flows);
	assert_int_equal(mt_udp_flows_touch(flows, "a", 1, 1, &one, 0), 0);
	assert_int_equal(mt_udp_flows_touch(flows, "b", 1, 1, &one, 10), 0);
	mt_udp_flows_expire(flows, MT_UDP_FLOW_IDLE_MS);
	assert_null(mt_udp_flows_find(flows, "a", 1, 1));
	assert_ptr_equal(mt_udp_flows_find(flows, "b", 1, 1), &one);
	assert_int_equal(mt_udp_flows_touch(flows, "", 0, 1, &one, 0), MT_E_RANGE);
	mt_udp_flows_free(flows);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find_last_owner),
		cmocka_unit_test(test_touch_over_the_cap),
		cmocka_unit_test(test_expire_idle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
