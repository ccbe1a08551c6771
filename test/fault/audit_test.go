package fault

import (
	"fmt"
	"testing"

	"reagent/internal/testenv"
	"reagent/protocol"
)

// The agent is killed with -9 in the instant in which its answer arrives: what
// it was asked is in the audit of the next one.
func TestWhatWasAnsweredIsInTheAuditOfAKilledAgent(t *testing.T) {
	t.Parallel()
	s := newStranger(t, "json")
	for life := range 2 {
		if _, err := s.call(s.system, protocol.PruneImages, []any{map[string]any{"requestor_account_key": "x"}}, nil); err == nil {
			t.Error("images are pruned for an account that is none")
		}
		if _, err := s.call(s.system, protocol.PruneImages, []any{map[string]any{"all": "yes"}}, nil); err == nil {
			t.Error("an odd request to prune images is answered")
		}
		kwargs := good(s.engine.Prefix + "web")
		kwargs["app_key"], kwargs["environment"] = webKey, map[string]any{"PIN": map[string]any{"value": "1234-secret"}}
		kwargs["target_state"] = "REMOVED"
		if _, err := s.call(s.system, protocol.RequestAppState, nil, kwargs); err != nil {
			t.Fatal(err)
		}
		s.agent.Kill()
		s.agent = s.device.Start(t, quick(t))
		var answer protocol.AuditAnswer
		testenv.Eventually(t, wait, func() string { return fmt.Sprintf("the audit is answered: %+v", answer) }, func() bool {
			r, err := s.call(s.system, protocol.QueryAudit, nil, nil)
			return err == nil && protocol.Decode(protocol.Arg(r.Args, 0), &answer) == nil
		})
		if len(answer.Entries) != 3*(life+1) {
			t.Fatalf("life %d: %d entries, want %d: %+v", life, len(answer.Entries), 3*(life+1), answer.Entries)
		}
		got := ""
		for _, e := range answer.Entries[3*life:] {
			got += fmt.Sprintln(e.Seq, e.AuthID, e.Procedure, e.Target, e.Result, e.Args["environment"])
		}
		want := fmt.Sprintln(3*life+1, "system", "prune_images", "", "refused", nil) +
			fmt.Sprintln(3*life+2, "system", "prune_images", "", "error", nil) +
			fmt.Sprintln(3*life+3, "system", "request_app_state", s.cn, "ok", map[string]any{"PIN": "***"})
		if got != want {
			t.Errorf("life %d: entries\n%swant\n%s", life, got, want)
		}
	}
}
