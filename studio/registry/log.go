package registry

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"github.com/rs/zerolog"
	"github.com/sirupsen/logrus"
)

// distribution logs through logrus' one logger of the process, and several lines
// a request. Its errors are worth keeping: they tell why an answer was 500. They
// go to the log of the Registry that was opened last; a process has one but for
// tests.
var forwardTo atomic.Pointer[zerolog.Logger]

func forwardLog(log zerolog.Logger) {
	if forwardTo.Swap(&log) == nil {
		logrus.SetOutput(io.Discard)
		logrus.SetLevel(logrus.ErrorLevel)
		logrus.AddHook(forwarder{})
	}
}

// A forwarder hands logrus' errors on.
type forwarder struct{}

func (forwarder) Levels() []logrus.Level {
	return []logrus.Level{logrus.ErrorLevel, logrus.FatalLevel, logrus.PanicLevel}
}

func (forwarder) Fire(entry *logrus.Entry) error {
	log := forwardTo.Load()
	event := log.Warn()
	// Answers below 500 are the client's doing: a blob that is not there yet,
	// each time somebody pushes.
	if status, ok := entry.Data["http.response.status"].(int); ok && status < 500 {
		event = log.Debug()
	}
	for key, value := range entry.Data {
		if strings.HasPrefix(key, "err.") || strings.HasPrefix(key, "vars.") {
			event = event.Str(key, fmt.Sprint(value))
		}
	}
	event.Msg("registry: " + entry.Message)
	return nil
}
