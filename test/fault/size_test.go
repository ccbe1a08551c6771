package fault

import (
	"context"
	"strings"
	"testing"
	"time"

	"reagent/internal/testenv"
	"reagent/messenger"
	"reagent/protocol"
	"reagent/test/rig"
)

// routerLimit is the longest message that the studio's router takes of anybody
// (design S24).
const routerLimit = 16 << 20

func TestAMessageOverTheRoutersLimitEndsItsSendersSessionOnly(t *testing.T) {
	t.Parallel()
	s := newSite(t, testenv.Docker(t))
	s.start(product(t))
	testenv.Eventually(t, wait, func() string { return "the status says online" }, func() bool { return s.device.Status().State == string(messenger.Online) })
	before := s.device.Status()
	login := s.studio.Login()
	login.MaxSend = 4 * routerLimit
	for _, format := range []string{"json", "msgpack", "cbor"} {
		login.Formats = []string{format}
		sender, online := rig.Join(t, login)
		<-online
		call := func(size int) error {
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			_, err := sender.Call(ctx, protocol.Procedure(s.device.Serial, protocol.ListContainers), []any{strings.Repeat("x", size)}, nil)
			return err
		}
		if err := call(routerLimit - 512); err != nil {
			t.Errorf("%s: a call just below the limit: %v, want the answer", format, err)
		}
		select {
		case <-online:
			t.Errorf("%s: the session ended over a message below the limit", format)
		default:
		}
		if err := call(routerLimit + 1); err == nil {
			t.Errorf("%s: a call just above the limit was answered", format)
		}
		select {
		case <-online: // it came back: it had ended
		case <-time.After(wait):
			t.Errorf("%s: the session did not end over a message above the limit", format)
		}
		if err := call(1); err != nil {
			t.Errorf("%s: a small call afterwards: %v", format, err)
		}
	}
	if after := s.device.Status(); after.State != string(messenger.Online) || !after.Since.Equal(before.Since) {
		t.Errorf("the device is %s since %v, was %s since %v: its session ended, too", after.State, after.Since, before.State, before.Since)
	}
	if err := s.answers(protocol.GetStorageData, wait); err != nil {
		t.Errorf("the device answers: %v", err)
	}
}
