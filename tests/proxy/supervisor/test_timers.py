"""Appointments: in order, once, and never the ones that were called off."""

from proxy.supervisor.timers import Schedule


def test_appointments_run_in_order_of_time_and_then_of_making():
    schedule, said = Schedule(), []
    for moment, word in ((2.0, "c"), (1.0, "a"), (1.0, "b"), (9.0, "late")):
        schedule.at(moment, lambda word=word: said.append(word))
    schedule.run(2.0)
    assert said == ["a", "b", "c"]


def test_a_cancelled_appointment_neither_runs_nor_wakes():
    schedule, said = Schedule(), []
    schedule.at(1.0, lambda: said.append("cancelled")).cancel()
    assert schedule.pause(0.0) is None
    schedule.at(5.0, lambda: said.append("kept"))
    assert schedule.pause(1.0) == 4.0
    schedule.run(5.0)
    assert said == ["kept"]


def test_an_appointment_made_while_running_waits_for_the_next_turn():
    schedule, said = Schedule(), []

    def again():
        said.append("run")
        schedule.at(0.0, again)

    schedule.at(0.0, again)
    schedule.run(1.0)
    assert said == ["run"]
    assert schedule.pause(1.0) == 0.0


def test_one_that_is_called_off_by_another_of_the_same_turn_does_not_run():
    schedule, said = Schedule(), []
    schedule.at(1.0, lambda: second.cancel())
    second = schedule.at(1.0, lambda: said.append("second"))
    schedule.run(1.0)
    assert said == []
