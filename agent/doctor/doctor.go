// Package doctor looks for what keeps a kiosk from serving and says it in words
// with the next step. A check asks one question and changes nothing; what it
// cannot find out is Unsure, never Good. Nothing in a finding is secret.
package doctor

import (
	"fmt"
	"strings"
	"time"

	"vcckiosk/agent/audit"
)

// Level is how a finding is to be taken.
type Level string

// The levels. Good: nothing to do. Warn: it serves, and will not for ever. Bad:
// it does not serve, or must not. Unsure: could not be found out here.
const (
	Good   Level = "good"
	Warn   Level = "warn"
	Bad    Level = "bad"
	Unsure Level = "unsure"
)

// Finding is the answer of one check.
type Finding struct {
	Check string `json:"check"` // stable, for programs
	Level Level  `json:"level"`
	ZH    string `json:"zh"`
	EN    string `json:"en"`
	Next  string `json:"next,omitempty"` // what a technician does about it
}

func good(check, zh, en string, args ...any) Finding {
	return Finding{Check: check, Level: Good, ZH: zh, EN: fmt.Sprintf(en, args...)}
}

func found(check string, l Level, zh, next, en string, args ...any) Finding {
	return Finding{Check: check, Level: l, ZH: zh, EN: fmt.Sprintf(en, args...), Next: next}
}

// Worst is the worst level among findings: Bad, Warn, Unsure, Good.
func Worst(fs []Finding) Level {
	order := []Level{Good, Unsure, Warn, Bad}
	worst := 0
	for _, f := range fs {
		for i, l := range order {
			if f.Level == l {
				worst = max(worst, i)
			}
		}
	}
	return order[worst]
}

// maxSkew is how far the platform's clock may be from ours: the sign carries a
// timestamp, and platforms refuse minutes.
const maxSkew = 2 * time.Minute

// Clock looks at the clock: against the time the program was built (zero: not
// known) and against the platform's, if an answer has told it.
func Clock(now, built time.Time, skew time.Duration, known bool) Finding {
	const next = "set the clock (timedatectl), then check its battery and that a time server is reachable"
	switch {
	case !built.IsZero() && now.Before(built):
		return found("clock", Bad, "时钟早于程序的构建时间", next, "the clock shows %s, before this program was built", now.Format(time.DateOnly))
	case !built.IsZero() && now.After(built.AddDate(10, 0, 0)):
		return found("clock", Bad, "时钟晚于程序构建时间十年以上", next, "the clock shows %s, ten years after this program was built", now.Format(time.DateOnly))
	case known && skew.Abs() > maxSkew:
		return found("clock", Warn, "时钟与平台相差过大", next, "the platform's clock is %v away from ours", skew.Round(time.Second))
	case !known:
		return good("clock", "时钟合理，尚未与平台核对", "the clock is plausible; no answer of the platform to compare with yet")
	}
	return good("clock", "时钟正常", "the clock is within %v of the platform's", max(skew.Abs().Round(time.Second), time.Second))
}

// Zone looks at the time zone of this machine. All dates on the wire are China
// Standard Time whatever it says; only logs follow it.
func Zone(now time.Time) Finding {
	name, offset := now.Zone()
	if offset != 8*3600 {
		return found("zone", Warn, "系统时区不是中国标准时间", "timedatectl set-timezone Asia/Shanghai",
			"logs are written in zone %s, not China Standard Time", name)
	}
	return good("zone", "时区正常", "the time zone is China Standard Time")
}

// Outbox looks at what waits for delivery.
func Outbox(depth, parked int, oldest time.Duration) Finding {
	switch {
	case parked > 0:
		return found("outbox", Bad, "有结果上报被搁置", "kioskctl queue ls shows the reasons; requeue each when its reason is gone",
			"%d reports are parked", parked)
	case depth > 0 && oldest > time.Hour:
		return found("outbox", Bad, "有结果超过一小时未送达", "look at the findings on the network; nothing is lost meanwhile",
			"%d results wait, the oldest for %v", depth, oldest.Round(time.Minute))
	case depth > 0:
		return good("outbox", "正在上报", "%d results are on their way", depth)
	}
	return good("outbox", "没有待上报的结果", "every result is delivered")
}

// Key looks at the base key: words as the daemon's status says them.
func Key(words, kcv string) Finding {
	const next = "kioskctl provision set --stdin, with a key of the back office"
	switch {
	case words == "active":
		return good("key", "密钥已启用", "a base key is in use, check value %s", kcv)
	case strings.HasPrefix(words, "pending"):
		return found("key", Warn, "新密钥待平台验证", "wait for the network, or provision again", "a key is stored, the platform has not proven it yet")
	case strings.HasPrefix(words, "locked"):
		return found("key", Bad, "密钥库无法打开", "mend what it says; if the key file is lost, set the keystore aside and provision again",
			"the keystore is %s", words)
	case words == "none":
		return found("key", Bad, "设备尚无密钥", next, "this kiosk has no base key")
	}
	return found("key", Unsure, "密钥状态未知", next, "state of the key: %s", words)
}

// Token looks at the session with the platform: words as the daemon's status
// says them.
func Token(words string) Finding {
	switch words {
	case "live":
		return good("token", "与平台的会话正常", "a session with the platform is open")
	case "refused":
		return found("token", Bad, "平台拒绝当前密钥", "ask the back office which key is valid (compare check values), then kioskctl provision set --stdin",
			"the platform refuses the base key in use")
	case "none":
		return found("token", Unsure, "尚未与平台建立会话", "look at the findings on key and network; a session is opened at the next card or heartbeat",
			"no session with the platform is open")
	}
	return found("token", Unsure, "会话状态未知", "kioskctl status", "state of the session: %s", words)
}

// Reader looks at the reader's state as the daemon saw it last.
func Reader(name, state string) Finding {
	switch state {
	case "card in", "card out":
		return good("reader", "读卡器正常", "%s is there, %s", name, state)
	case "reader gone":
		return found("reader", Bad, "找不到读卡器", "plug it in; if it is, try another cable and port; lsusb must list it", "%s is not there", name)
	case "service down":
		return found("reader", Bad, "读卡服务 pcscd 未运行", "systemctl status pcscd.socket pcscd", "the card service (pcscd) does not answer")
	}
	return found("reader", Unsure, "读卡器状态未知", "ask again in ten seconds", "%s: %s", name, state)
}

// Mirror looks at the copy of master data: state and fault as the daemon's
// status says them. No top-up depends on it, so nothing here is Bad.
func Mirror(state, fault string, oldest time.Duration) Finding {
	switch {
	case fault != "":
		return found("mirror", Warn, "基础数据镜像无法打开", "mend what it says; top-ups do not depend on it", "%s", fault)
	case state == "resync needed":
		return found("mirror", Warn, "基础数据镜像缺口超过一个月，需全量重新同步", "kioskctl mirror resync; top-ups do not depend on it",
			"the mirror missed changes for more than a month: full resync needed")
	case state == "behind":
		return found("mirror", Warn, "基础数据镜像落后", "kioskctl mirror status says why; look at the findings on the network",
			"the mirror is %v behind", oldest.Round(time.Minute))
	case state == "current":
		return good("mirror", "基础数据镜像正常", "the mirror is up to date")
	}
	return found("mirror", Unsure, "基础数据镜像尚未同步", "ask again in half an hour", "the mirror has not been pulled yet")
}

// Alarms looks at what the daemon has raised; the words are the event
// catalogue's.
func Alarms(raised []string) Finding {
	if len(raised) == 0 {
		return good("alarms", "没有告警", "no alarm stands")
	}
	f := Finding{Check: "alarms", Level: Warn}
	for _, a := range raised {
		d, known := audit.Lookup(audit.Event(a))
		if !known {
			d = audit.Def{ZH: a, EN: a, Next: "kioskctl status", Severity: audit.Critical}
		}
		if d.Severity == audit.Critical {
			f.Level = Bad
		}
		f.ZH, f.EN, f.Next = join(f.ZH, d.ZH, "；"), join(f.EN, d.EN, "; "), join(f.Next, d.Next, "; ")
	}
	return f
}

func join(a, b, by string) string {
	if a == "" {
		return b
	}
	return a + by + b
}
