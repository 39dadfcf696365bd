package catalogue

// Entry is one line of a dictionary.
type Entry struct {
	Code, ZH, EN string
	Evidence     Evidence
}

// Appendix returns the dictionary of an appendix, "B" to "F"; A is Results. The
// document leaves B, D, E and F empty: what stands there was seen in its
// samples and in clients of the platform. 3025 answers the platform's own
// dictionary, and what it does not answer stays as it is here: codes are opaque
// and an unknown one is no error.
func Appendix(letter string) []Entry {
	switch letter {
	case "B":
		return []Entry{
			{"SU0105", "（文档示例）", "in the document's samples", Documented},
			{"WJ0105", "吴江", "in the document's samples", Documented},
			{"YH0105", "", "seen in a client", Inferred},
			{"MA0105", "", "seen in a client", Inferred},
		}
	case "C":
		return []Entry{
			{"P", "省（直辖市）", "province", Documented},
			{"C", "市", "city", Documented},
			{"D", "区（县）", "district, county", Documented},
			{"T", "镇（大道）", "town, avenue", Documented},
			{"S", "街道（乡）", "street, township", Documented},
			{"G", "小区（村）", "estate, village", Documented},
			{"B", "楼栋", "building", Documented},
			{"6", "楼栋（文档示例）", "building, as the sample of 3001 writes it", Documented},
		}
	case "D":
		return []Entry{
			{"A", "正常", "usable", Documented},
			{"X", "停用", "not usable, by analogy with the other states", Inferred},
		}
	case "E":
		return []Entry{
			{"01", "（文档示例）", "in the sample of 3004", Documented},
			{"02", "（文档示例）", "in the sample of 3004", Documented},
		}
	case "F":
		return []Entry{
			{"01", "（文档示例）", "in the sample of 3004", Documented},
			{"03", "（文档示例）", "in the sample of 3004", Documented},
		}
	}
	return nil
}

// DictType is what 3025 calls an appendix.
func DictType(letter string) string {
	return map[string]string{"B": "orgCode", "C": "addrType", "D": "subsState", "E": "resType", "F": "resModel"}[letter]
}

// Class is what a caller does about a result code.
type Class string

// Classes of a result code.
const (
	OK        Class = "ok"
	Transient Class = "retry"     // later, with a new message number
	Repeat    Class = "once"      // at once, once, with a new message number
	Auth      Class = "auth"      // renew the session once; never says anything about the business
	Permanent Class = "permanent" // until configuration or program change
	Refusal   Class = "business"  // a definite answer
)

// Result is one result code of appendix A, which the document leaves empty.
type Result struct {
	Code, ZH, EN string
	Class        Class
	Evidence     Evidence
}

// Results are the codes known by name, in order. A code that is not here goes
// by its range: 1 to 9999 a success with a remark, 10000 to 19999 the
// platform's own trouble, 20000 and above a refusal.
func Results() []Result {
	return []Result{
		{"0", "成功", "success", OK, Inferred},
		{"10001", "系统异常", "system error", Transient, Inferred},
		{"10010", "数据库异常", "database error", Transient, Inferred},
		{"10027", "读取报文失败", "body cannot be read", Transient, Inferred},
		{"10031", "接口不存在", "interface not supported", Permanent, Inferred},
		{"10035", "HTTP异常", "error on the way", Transient, Inferred},
		{"10045", "请求方式不支持", "method not supported", Permanent, Inferred},
		{"10053", "资源锁定", "locked", Transient, Inferred},
		{"10056", "消息重复", "duplicate message", Repeat, Inferred},
		{"20001", "令牌过期", "token expired", Auth, Inferred},
		{"20002", "凭证错误", "credentials wrong", Auth, Inferred},
		{"20009", "状态不允许", "state does not allow it", Refusal, Inferred},
		{"20010", "媒体类型错误", "media type wrong", Refusal, Inferred},
		{"20011", "媒体过大", "media too large", Refusal, Inferred},
		{"20012", "媒体不存在", "media not found", Refusal, Inferred},
		{"20031", "无权限", "no permission", Refusal, Inferred},
		{"30001", "appId为空", "appId empty", Permanent, Inferred},
		{"30002", "参数错误", "parameter wrong", Permanent, Inferred},
		{"30007", "access_token为空", "token empty", Permanent, Inferred},
		{"30009", "appId或密钥错误", "appId or secret wrong", Auth, Inferred},
		{"30010", "令牌或签名错误", "token or sign wrong", Auth, Inferred},
		{"40058", "令牌缺失或无效", "token missing or invalid", Auth, Inferred},
		{"46001", "订单不存在", "order unknown", Refusal, Ours},
		{"46002", "流水号内容不一致", "number with other content", Refusal, Ours},
		{"46003", "订单被其他流水号占用", "held by another number", Refusal, Ours},
		{"46004", "订单已冲正", "given back", Refusal, Ours},
		{"46005", "MAC1错误", "MAC1 wrong", Refusal, Ours},
		{"46006", "TAC错误", "TAC wrong", Refusal, Ours},
		{"46007", "卡片不允许充值", "card not allowed", Refusal, Ours},
		{"46008", "卡上仍有余气", "gas still on the card", Refusal, Ours},
		{"46009", "挑战值不是最新", "challenge not the newest", Refusal, Ours},
		{"46101", "设备序列号未登记", "serial number not known", Refusal, Ours},
		{"46102", "注册码已被使用", "one-time code used for another kiosk", Refusal, Ours},
		{"46103", "设备属于其他机构", "serial number of another organisation", Refusal, Ours},
	}
}
