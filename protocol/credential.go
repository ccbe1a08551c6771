package protocol

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// AppAuthID is the authid with which an app logs in (life §3.5). Epoch 0 means 1.
func AppAuthID(stage Stage, appKey, epoch uint64, serial string) string {
	return fmt.Sprintf("app-%d-%s-e%d@%s", appKey, strings.ToLower(string(stage)), max(epoch, 1), serial)
}

// AppSecret derives an app's secret from the device's credential key, which is
// used as delivered, never base64-decoded (life §3.5). Epoch 0 means 1.
func AppSecret(deviceKey string, stage Stage, appKey, epoch uint64, serial string) string {
	mac := hmac.New(sha256.New, []byte(deviceKey))
	fmt.Fprintf(mac, "ironflock/app-cred/v1|%s|%d|%s|%d", serial, appKey, strings.ToUpper(string(stage)), max(epoch, 1))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// ParseAppAuthID takes an app's authid apart.
func ParseAppAuthID(authid string) (stage Stage, appKey, epoch uint64, serial string, ok bool) {
	head, serial, found := strings.Cut(authid, "@")
	parts := strings.Split(head, "-")
	if !found || serial == "" || len(parts) != 4 || parts[0] != "app" || !strings.HasPrefix(parts[3], "e") {
		return "", 0, 0, "", false
	}
	stage = Stage(strings.ToUpper(parts[2]))
	appKey, errKey := strconv.ParseUint(parts[1], 10, 64)
	epoch, errEpoch := strconv.ParseUint(parts[3][1:], 10, 64)
	if errKey != nil || errEpoch != nil || appKey == 0 || epoch == 0 || !stage.Valid() {
		return "", 0, 0, "", false
	}
	return stage, appKey, epoch, serial, true
}

// AppRealm is the realm in which an app meets its like on other devices (design S23).
func AppRealm(swarmKey, appKey uint64, stage Stage) string {
	return fmt.Sprintf("realm-%d-%d-%s", swarmKey, appKey, strings.ToLower(string(stage)))
}

// ParseAppRealm takes the name of an app's realm apart.
func ParseAppRealm(realm string) (swarmKey, appKey uint64, stage Stage, ok bool) {
	parts := strings.Split(realm, "-")
	if len(parts) != 4 || parts[0] != "realm" {
		return 0, 0, "", false
	}
	swarmKey, errS := strconv.ParseUint(parts[1], 10, 64)
	appKey, errA := strconv.ParseUint(parts[2], 10, 64)
	stage = Stage(strings.ToUpper(parts[3]))
	return swarmKey, appKey, stage, errS == nil && errA == nil && stage.Valid() && realm == AppRealm(swarmKey, appKey, stage)
}
