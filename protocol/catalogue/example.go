package catalogue

import "strings"

// Example is a value a field could have: for documentation, and for a
// simulator that has nothing better. It fits the field's type and length.
func Example(f Field) any {
	switch f.Type {
	case Timestamp:
		return "20260102030405"
	case DateTime:
		return "2026-01-02 03:04:05"
	}
	if v, has := examples()[f.Name]; has && strings.Contains(f.Name, ".") {
		return v
	}
	last := f.Name[strings.LastIndex(f.Name, ".")+1:]
	if v, has := examples()[last]; has && f.Type != Objects && f.Type != Nested {
		if s, is := v.(string); is != (f.Type == Integer) && (!is || f.Len == 0 || len([]rune(s)) <= f.Len) {
			return v
		}
	}
	switch f.Type {
	case Integer:
		return 1
	case Hex:
		n := f.Len
		if n == 0 || n > 8 {
			n = 8
		}
		return strings.Repeat("A0", n/2)
	case Strings:
		return []any{"A1"}
	case Bytes:
		return "(bytes)"
	}
	if f.Len == 1 {
		return "1"
	}
	return "01"
}

func examples() map[string]any {
	return map[string]any{
		"orgCode": "SU0105", "subsCode": "1400123456", "deviceId": "QC0001", "appId": "6A5B0E0F1C", "channelId": "C01", "terminalNo": "112233445566",
		"termTransNo": "0123456789ABCDEF0123456789ABCDEF", "orderNo": "4006202608010001", "cardNo": "8600000012345678", "cardType": "CPU",
		"amount": 5000, "gasVolume": 1666, "name": "张**", "displayAddr": "木岭小区**", "addrDetail": "木岭小区**", "meterCode": "M12345678",
		"seq": "10022017080109300000000000000001", "sign": "ED446AD8FC4F4A19B369C01D720D1579",
		"expireTime": 7200, "token": "1Z5M011v4P5joM9VqMr0", "state": "A", "kind": "load", "load.type": 2, "type": "image", "mediaId": "MEDIA0001",
		"resultCode": "46001", "resultMsg": "order unknown", "userType": "MEMBER", "userCode": "U0001", "pageIndex": 1, "pageSize": 10,
		"challenge": "00112233AABBCCDD", "date": "20260102", "time": "030405", "hostDate": "20260102", "hostTime": "030405",
		"beginDate": "20260101", "endDate": "20260131", "canCharge": "Y", "loadMode": 1, "authExpire": 300, "onlineSeq": 42,
		"reason": "02", "evidence": "answer", "noAttempt": "N", "result": 0, "offlineSeconds": 0, "kcv": "1A2B3C", "dictType": "addrType",
		"dictCode": "B", "dictName": "楼栋", "eventCode": "7003", "price": "2.67", "yrMonth": "202601", "cmd": "syncNow",
	}
}

// Row is an answer's object with an example in every field, lists and objects
// included.
func Row(fields []Field) map[string]any { return row(fields, "") }

func row(fields []Field, prefix string) map[string]any {
	out := map[string]any{}
	for _, f := range fields {
		name, in := strings.CutPrefix(f.Name, prefix)
		if !in || strings.Contains(name, ".") {
			continue
		}
		switch f.Type {
		case Nested:
			out[name] = row(fields, f.Name+".")
		case Objects:
			out[name] = []any{row(fields, f.Name+".")}
		default:
			out[name] = Example(f)
		}
	}
	return out
}
