/* What the control thread looks at regularly for those who watch: the history's samples, the
 * processor time of the workers, certificates, the database's size. Control thread.
 */
#pragma once

struct mt_appliance;

#define MT_OBSERVE_MS 1000

/* Once a second. */
void mt_observe_tick(struct mt_appliance *a);
/* Reads the certificates' dates into the facts: at start, and when they have changed. */
void mt_observe_certs(struct mt_appliance *a);
