-- Installs or upgrades the schema persona: psql -X -f db/install.sql
-- Run it as often as you like: a migration runs once, functions and views are replaced each time. All of it is one
-- transaction, so a running system sees either the old schema or the new one. It gives up after 5 s where a lock
-- cannot be had; run it again then. No superuser and no extension is needed, only CREATE on the database.
-- persona db migrate applies the same files in the same order, and checks the migrations' checksums.
\set ON_ERROR_STOP on
begin isolation level read committed;
set local lock_timeout = '5s';
set local client_min_messages = warning;
set local check_function_bodies = off;
set local search_path = pg_catalog, pg_temp;
-- One install at a time, from whichever door. Who waits for another one holds nobody up, and may wait longer.
do $$ begin
  set local lock_timeout = '1min';
  perform pg_advisory_xact_lock(hashtext('persona.install'), 0);
  set local lock_timeout = '5s';
end $$;

\ir bootstrap.sql
\ir functions/internal/_new_id.sql
\ir functions/internal/_caller.sql
\ir functions/internal/_may_apply.sql

\set migration 0001_settings.sql
\ir _apply_migration.sql
\set migration 0002_agents.sql
\ir _apply_migration.sql
\set migration 0003_runners.sql
\ir _apply_migration.sql
\set migration 0004_jobs.sql
\ir _apply_migration.sql
\set migration 0005_logs.sql
\ir _apply_migration.sql
\set migration 0006_money.sql
\ir _apply_migration.sql
\set migration 0007_plans.sql
\ir _apply_migration.sql
\set migration 0008_seed.sql
\ir _apply_migration.sql
\set migration 0009_bridge.sql
\ir _apply_migration.sql
\set migration 0010_connections.sql
\ir _apply_migration.sql
\set migration 0011_notes.sql
\ir _apply_migration.sql
\set migration 0012_people_and_trees.sql
\ir _apply_migration.sql
\set migration 0013_alerts.sql
\ir _apply_migration.sql
\set migration 0014_agent_fields.sql
\ir _apply_migration.sql
\set migration 0015_resource_limits.sql
\ir _apply_migration.sql
\set migration 0016_watchers.sql
\ir _apply_migration.sql
\set migration 0017_schedules.sql
\ir _apply_migration.sql
\set migration 0018_gates.sql
\ir _apply_migration.sql
\set migration 0019_limits.sql
\ir _apply_migration.sql
\set migration 0020_tenants.sql
\ir _apply_migration.sql
\set migration 0021_budgets.sql
\ir _apply_migration.sql
\set migration 0022_protocol_2.sql
\ir _apply_migration.sql
\set migration 0023_metrics.sql
\ir _apply_migration.sql
\set migration 0024_restored.sql
\ir _apply_migration.sql
\set migration 0025_staying_awake.sql
\ir _apply_migration.sql
\set migration 0026_payload_limit.sql
\ir _apply_migration.sql
\set migration 0027_activity.sql
\ir _apply_migration.sql
\set migration 0028_command_lines.sql
\ir _apply_migration.sql
\set migration 0029_fewer_triggers.sql
\ir _apply_migration.sql
\set migration 0030_places_of_rows.sql
\ir _apply_migration.sql

-- Views come first: some functions return their rows.
\ir functions/internal/_limit_room.sql
\ir functions/internal/_period_start.sql
\ir functions/internal/_period_end.sql
\ir functions/internal/_money_of.sql
\ir functions/client/list_budgets.sql
\ir functions/internal/_task_preview.sql
\ir views/agent_workload.sql
\ir views/budget_use.sql
\ir views/cost_by_day.sql
\ir views/job_dashboard.sql
\ir views/job_events.sql
\ir views/job_statistics.sql
\ir views/limit_use.sql
\ir views/note_questions.sql
\ir views/open_agents.sql
\ir views/open_questions.sql
\ir views/queue_health.sql
\ir views/runner_dashboard.sql
\ir views/throughput_by_hour.sql

-- What the functions below share.
\ir functions/internal/_add_dependencies.sql
\ir functions/internal/_add_tokens.sql
\ir functions/internal/_admit.sql
\ir functions/internal/_age_priorities.sql
\ir functions/internal/_announce.sql
\ir functions/internal/_announce_any.sql
\ir functions/internal/_announce_logs.sql
\ir functions/internal/_ask_approval.sql
\ir functions/internal/_beat_external.sql
\ir functions/internal/_bin.sql
\ir functions/internal/_break_schedule.sql
\ir functions/internal/_book.sql
\ir functions/internal/_bridge_call.sql
\ir functions/internal/_bridge_create_job.sql
\ir functions/internal/_bridge_driver.sql
\ir functions/internal/_bridge_ended.sql
\ir functions/internal/_bridge_job.sql
\ir functions/internal/_bridge_json.sql
\ir functions/internal/_bridge_local_logs.sql
\ir functions/internal/_bridge_number.sql
\ir functions/internal/_bridge_pending.sql
\ir functions/internal/_bridge_performance.sql
\ir functions/internal/_bridge_text.sql
\ir functions/internal/_bucket.sql
\ir functions/internal/_bucket_fits.sql
\ir functions/internal/_bucket_text.sql
\ir functions/internal/_buckets.sql
\ir functions/internal/_camel.sql
\ir functions/internal/_check_argv.sql
\ir functions/internal/_lock_connection.sql
\ir functions/internal/_check_connection.sql
\ir functions/internal/_check_job.sql
\ir functions/internal/_check_launcher.sql
\ir functions/internal/_check_notes.sql
\ir functions/internal/_check_parent.sql
\ir functions/internal/_check_payload.sql
\ir functions/internal/_check_scheduled_job.sql
\ir functions/internal/_check_span.sql
\ir functions/internal/_child_ended.sql
\ir functions/internal/_child_json.sql
\ir functions/internal/_claim_external.sql
\ir functions/internal/_cost_ahead.sql
\ir functions/internal/_count_activity.sql
\ir functions/internal/_count_jobs.sql
\ir functions/internal/_days_since.sql
\ir functions/internal/_decide_ends.sql
\ir functions/internal/_deliver_alert.sql
\ir functions/internal/_drive_job.sql
\ir functions/internal/_drop_reservation.sql
\ir functions/internal/_enforce_tenants.sql
\ir functions/internal/_fail_family.sql
\ir functions/internal/_feed_horizon.sql
\ir functions/internal/_fire_schedule.sql
\ir functions/internal/_fire_schedules.sql
\ir functions/internal/_first_bucket.sql
\ir functions/internal/_fits.sql
\ir functions/internal/_hold_for_money.sql
\ir functions/internal/_id_floor.sql
\ir functions/internal/_invalid.sql
\ir functions/internal/_requeue.sql
\ir functions/internal/_settle_late.sql
\ir functions/internal/_unknown_agent.sql
\ir functions/internal/_is_admin.sql
\ir functions/internal/_is_much.sql
\ir functions/internal/_is_needed.sql
\ir functions/internal/_is_summed.sql
\ir functions/internal/_job_call.sql
\ir functions/internal/_job_items.sql
\ir functions/internal/_job_json.sql
\ir functions/internal/_job_matches.sql
\ir functions/internal/_job_window.sql
\ir functions/internal/_jobs_forget.sql
\ir functions/internal/_jobs_guard.sql
\ir functions/internal/_jobs_removed.sql
\ir functions/internal/_jobs_emptied.sql
\ir functions/internal/_jobs_sync_queue.sql
\ir functions/internal/_jobs_tenant.sql
\ir functions/internal/_keep_reservations.sql
\ir functions/internal/_last_logs.sql
\ir functions/internal/_lease_day.sql
\ir functions/internal/_lease_lost.sql
\ir functions/internal/_ledger_booked.sql
\ir functions/internal/_ledger_kept.sql
\ir functions/internal/_lend_slot.sql
\ir functions/internal/_limit_names.sql
\ir functions/internal/_log_rows.sql
\ir functions/internal/_lock_job.sql
\ir functions/internal/_lock_keys.sql
\ir functions/internal/_lock_probes.sql
\ir functions/internal/_may.sql
\ir functions/internal/_money_text.sql
\ir functions/internal/_moved_by_hand.sql
\ir functions/internal/_next_priority.sql
\ir functions/internal/_note_items.sql
\ir functions/internal/_note_job.sql
\ir functions/internal/_note_plan.sql
\ir functions/internal/_needs_approval.sql
\ir functions/internal/_orphan.sql
\ir functions/internal/_outcomes.sql
\ir functions/internal/_own_runner.sql
\ir functions/internal/_park_for_money.sql
\ir functions/internal/_percentiles.sql
\ir functions/internal/_parked_names.sql
\ir functions/internal/_pick_from_place.sql
\ir functions/internal/_remember_place.sql
\ir functions/internal/_pick_jobs.sql
\ir functions/internal/_plant_job.sql
\ir functions/internal/_raise.sql
\ir functions/internal/_raise_alert.sql
\ir functions/internal/_raise_budget_alert.sql
\ir functions/internal/_refuse_foreign_id.sql
\ir functions/internal/_refuse_late.sql
\ir functions/internal/_regain_slot.sql
\ir functions/internal/_reopen_budgets.sql
\ir functions/internal/_reserve.sql
\ir functions/internal/_resource_limits.sql
\ir functions/internal/_resumption.sql
\ir functions/internal/_resume_at.sql
\ir functions/internal/_mark_server.sql
\ir functions/internal/_retry_delay.sql
\ir functions/internal/_rpc_call.sql
\ir functions/internal/_rpc_check.sql
\ir functions/internal/_rpc_error.sql
\ir functions/internal/_runner.sql
\ir functions/internal/_say_outside.sql
\ir functions/internal/_schedule.sql
\ir functions/internal/_setting.sql
\ir functions/internal/_settle.sql
\ir functions/internal/_settle_dependents.sql
\ir functions/internal/_settle_gates.sql
\ir functions/internal/_snake_keys.sql
\ir functions/internal/_stop_job.sql
\ir functions/internal/_sum_activity.sql
\ir functions/internal/_sum_past.sql
\ir functions/internal/_summarize_arrivals.sql
\ir functions/internal/_tenant_key.sql
\ir functions/internal/_total_costs.sql
\ir functions/internal/_took.sql
\ir functions/internal/_fresh_executions.sql
\ir functions/internal/_happened.sql
\ir functions/internal/_count_executions.sql
\ir functions/internal/_unpark.sql
\ir functions/internal/_unpark_limited.sql
\ir functions/internal/_upkeep_logs.sql
\ir functions/internal/_waited_out.sql
\ir functions/internal/_waits_on.sql
\ir functions/internal/_wake.sql
\ir functions/internal/_watch_budgets.sql
\ir functions/internal/_watch_queue_age.sql

-- For creators and readers of jobs.
\ir functions/client/acknowledge_alerts.sql
\ir functions/client/answer_job.sql
\ir functions/client/bridge.sql
\ir functions/client/bridge_encoded.sql
\ir functions/client/cancel_job.sql
\ir functions/client/cancel_pending_jobs.sql
\ir functions/client/create_job.sql
\ir functions/internal/_create_each.sql
\ir functions/client/create_jobs.sql
\ir functions/client/delete_event.sql
\ir functions/client/detect_hung_jobs.sql
\ir functions/client/event_cursor.sql
\ir functions/client/explain_job.sql
\ir functions/client/get_agent.sql
\ir functions/client/get_costs.sql
\ir functions/client/get_metrics.sql
\ir functions/client/get_durations.sql
\ir functions/client/get_events.sql
\ir functions/client/get_executions.sql
\ir functions/client/get_failures.sql
\ir functions/client/get_job.sql
\ir functions/client/get_job_tree.sql
\ir functions/client/get_logs.sql
\ir functions/client/get_throughput.sql
\ir functions/client/get_waits.sql
\ir functions/client/hold_job.sql
\ir functions/client/intake_notes.sql
\ir functions/client/my_tenants.sql
\ir functions/client/job_summary.sql
\ir functions/client/summary_json.sql
\ir functions/client/list_agents.sql
\ir functions/client/list_events.sql
\ir functions/client/list_jobs.sql
\ir functions/client/monitor_snapshot.sql
\ir functions/client/note_links.sql
\ir functions/client/protocol_versions.sql
\ir functions/client/publish_event.sql
\ir functions/client/read_events.sql
\ir functions/client/record_note_answer.sql
\ir functions/client/record_note_link.sql
\ir functions/client/release_job.sql
\ir functions/client/resolve_job.sql
\ir functions/client/retry_job.sql
\ir functions/client/rpc.sql
\ir functions/client/rpc_encoded.sql
\ir functions/client/schema_version.sql
\ir functions/client/search_jobs.sql
\ir functions/client/tail_logs.sql
\ir functions/client/take_note_answers.sql
\ir functions/client/unwatch.sql
\ir functions/client/update_job.sql
\ir functions/client/watch.sql

-- For runners.
\ir functions/runner/append_logs.sql
\ir functions/runner/claim_job.sql
\ir functions/runner/claim_jobs.sql
\ir functions/runner/complete_job.sql
\ir functions/runner/complete_jobs.sql
\ir functions/runner/create_child_job.sql
\ir functions/runner/deregister_runner.sql
\ir functions/runner/give_back_job.sql
\ir functions/runner/heartbeat.sql
\ir functions/runner/heartbeats.sql
\ir functions/runner/idle_horizon.sql
\ir functions/runner/idle_state.sql
\ir functions/runner/is_settled.sql
\ir functions/runner/job_call.sql
\ir functions/runner/open_connection.sql
\ir functions/runner/plan_schedules.sql
\ir functions/runner/reconcile.sql
\ir functions/runner/recover_hung_jobs.sql
\ir functions/runner/recover_predecessor.sql
\ir functions/runner/register_runner.sql
\ir functions/runner/runner_directive.sql
\ir functions/runner/schedules_to_plan.sql
\ir functions/runner/tick.sql

-- For admins.
\ir functions/admin/assign_tenant.sql
\ir functions/admin/cleanup_old_jobs.sql
\ir functions/admin/close_gate.sql
\ir functions/admin/create_schedule.sql
\ir functions/admin/drain_outdated_runners.sql
\ir functions/admin/drain_runner.sql
\ir functions/admin/import_jobs.sql
\ir functions/admin/import_logs.sql
\ir functions/admin/open_gate.sql
\ir functions/admin/pause_schedule.sql
\ir functions/admin/rebuild_queue.sql
\ir functions/admin/register_agent.sql
\ir functions/admin/register_job_type.sql
\ir functions/admin/remove_alert_rule.sql
\ir functions/admin/remove_budget.sql
\ir functions/admin/remove_limit.sql
\ir functions/admin/remove_schedule.sql
\ir functions/admin/restrict_runner.sql
\ir functions/admin/resume_schedule.sql
\ir functions/admin/set_agent_active.sql
\ir functions/admin/set_alert_rule.sql
\ir functions/admin/set_budget.sql
\ir functions/admin/set_failure_policy.sql
\ir functions/admin/set_limit.sql
\ir functions/admin/set_setting.sql
\ir functions/admin/test_alert.sql
\ir functions/admin/update_agent.sql
\ir functions/admin/update_schedule.sql

\ir overloads.sql
\ir roles.sql
\ir policies.sql

commit;
