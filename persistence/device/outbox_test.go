package device_test

import (
	"bytes"
	"slices"
	"testing"

	"reagent/persistence/device"
	"reagent/protocol"
)

func containsText(raw []byte, text string) bool { return bytes.Contains(raw, []byte(text)) }

func report(key uint64, state protocol.State) device.Outgoing {
	return device.Outgoing{Report: protocol.StateReport{AppKey: key, Stage: protocol.Prod, State: state}}
}

func have(key uint64, state protocol.State) device.Actual {
	return device.Actual{AppKey: key, Stage: protocol.Prod, AppName: "web", State: state}
}

// waiting lists the states in the outbox.
func waiting(t *testing.T, s *device.Store) (states []protocol.State) {
	t.Helper()
	reports, _, err := s.Outbox()
	must(t, err)
	for i, r := range reports {
		states = append(states, r.State.State)
		if i > 0 && r.ID <= reports[i-1].ID {
			t.Errorf("outbox: report %d comes after %d", r.ID, reports[i-1].ID)
		}
	}
	return states
}

func wantWaiting(t *testing.T, s *device.Store, want ...protocol.State) {
	t.Helper()
	if got := waiting(t, s); !slices.Equal(got, want) {
		t.Errorf("outbox: got %v; want %v", got, want)
	}
}

func TestReportsOfAllAppsLeaveInTheOrderOfAcceptance(t *testing.T) {
	s := fresh(t)
	must(t, s.Save(have(9, protocol.Downloading), report(9, protocol.Downloading)))
	must(t, s.Save(have(7, protocol.Starting), report(7, protocol.Starting)))
	must(t, s.Save(have(9, protocol.Present), report(9, protocol.Present)))
	must(t, s.Save(have(7, protocol.Running), report(7, protocol.Running)))
	wantWaiting(t, s, protocol.Downloading, protocol.Starting, protocol.Present, protocol.Running)
}

func TestCoalescingKeepsUpdateReportsAndOtherApps(t *testing.T) {
	s := fresh(t)
	kept := report(7, protocol.Present)
	kept.Keep, kept.Report.UpdateStatus = true, protocol.UpdatePending
	newest := report(7, protocol.Running)
	newest.Coalesce = true
	must(t, s.Save(have(9, protocol.Running), report(9, protocol.Running)))
	must(t, s.Save(have(7, protocol.Updating), report(7, protocol.Updating), kept, report(7, protocol.Starting)))
	must(t, s.Save(have(7, protocol.Running), newest))
	wantWaiting(t, s, protocol.Running, protocol.Present, protocol.Running)
}

func TestAFullOutboxKeepsTheNewestAndWhatWasToBeKept(t *testing.T) {
	s := fresh(t)
	kept := report(7, protocol.Present)
	kept.Keep = true
	must(t, s.Save(have(7, protocol.Present), kept))
	for range 200 {
		must(t, s.Save(have(7, protocol.Starting), report(7, protocol.Starting)))
		if n := len(waiting(t, s)); n > 64 {
			t.Fatalf("%d reports wait; want at most 64", n)
		}
	}
	must(t, s.Save(have(7, protocol.Failed), report(7, protocol.Failed)))
	got := waiting(t, s)
	if got[0] != protocol.Present || got[len(got)-1] != protocol.Failed {
		t.Errorf("outbox: got %s first and %s last; want PRESENT and FAILED", got[0], got[len(got)-1])
	}
	for range 100 {
		must(t, s.Save(have(7, protocol.Present), kept))
	}
	if n := len(waiting(t, s)); n != 64 {
		t.Errorf("%d kept reports wait; want 64", n)
	}
}

func TestConfirmRemovesOneReportAndNothingElse(t *testing.T) {
	s := fresh(t)
	must(t, s.Save(have(7, protocol.Starting), report(7, protocol.Starting), report(7, protocol.Running)))
	reports, _, err := s.Outbox()
	must(t, err)
	must(t, s.Confirm(reports[0].ID))
	wantWaiting(t, s, protocol.Running)
	must(t, s.Confirm(reports[0].ID)) // again: it was superseded for all we know
	must(t, s.Confirm(reports[1].ID))
	wantWaiting(t, s)
	must(t, s.Save(have(7, protocol.Present), report(7, protocol.Present)))
	again, _, err := s.Outbox()
	must(t, err)
	if len(again) != 1 || again[0].ID <= reports[1].ID {
		t.Errorf("the next report: got %+v; want an ID above %d", again, reports[1].ID)
	}
}

func TestOnlyTheReportOfPortsThatWasSentIsConfirmed(t *testing.T) {
	s := fresh(t)
	ports := func(host uint16) protocol.PortsReport {
		return protocol.PortsReport{AppKey: 7, Stage: protocol.Prod, Ports: []protocol.PortRule{{Name: "http", Port: 80, HostPort: host}}}
	}
	entries := func() []device.PortsEntry {
		t.Helper()
		_, p, err := s.Outbox()
		must(t, err)
		return p
	}
	must(t, s.SavePorts(ports(40000)))
	sent := entries()
	must(t, s.SavePorts(ports(40000)))
	if again := entries(); len(again) != 1 || again[0].Seq != sent[0].Seq {
		t.Errorf("the same ports again: got %+v; want the entry %d", again, sent[0].Seq)
	}
	must(t, s.SavePorts(ports(40001)))
	must(t, s.ConfirmPorts(web, sent[0].Seq))
	left := entries()
	if len(left) != 1 || left[0].Report.Ports[0].HostPort != 40001 {
		t.Fatalf("after the older one was confirmed: got %+v; want the newer one", left)
	}
	must(t, s.ConfirmPorts(web, left[0].Seq))
	if left := entries(); len(left) != 0 {
		t.Errorf("after the newer one was confirmed: got %+v; want none", left)
	}
}

func TestDropForgetsTheAppAndKeepsItsReports(t *testing.T) {
	s := fresh(t)
	old, _ := want(t, s, wish(7), true)
	must(t, s.Save(have(7, protocol.Deleting), report(7, protocol.Deleting)))
	newest, _ := want(t, s, wish(7), true)
	if dropped, err := s.Drop(web, old.Seq, report(7, protocol.Removed)); dropped || err != nil {
		t.Fatalf("Drop for an older wish: got %t, %v; want false", dropped, err)
	}
	wantWaiting(t, s, protocol.Deleting)
	if dropped, err := s.Drop(web, newest.Seq, report(7, protocol.Removed)); !dropped || err != nil {
		t.Fatalf("Drop for the newest wish: got %t, %v; want true", dropped, err)
	}
	wantWaiting(t, s, protocol.Deleting, protocol.Removed)
	if _, ok, _ := s.Wanted(web); ok {
		t.Error("the wish is still there")
	}
	if _, ok, _ := s.Actual(web); ok {
		t.Error("the state is still there")
	}
}
